"""Tiny models in float64, and the switches that make float64 mean it."""

from __future__ import annotations

import os

# What `bundler.enforce_offline` sets in a real run; it must be there before transformers is imported.
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from infini_llama import InfiniLlamaConfig, InfiniLlamaForCausalLM

MakeModel = Callable[..., InfiniLlamaForCausalLM]


@pytest.fixture
def double_precision_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let RMSNorm compute in the model's dtype.

    The stock norm rounds to float32 whatever comes in, which now and then turns a difference of 1e-16 before it
    into one of 1e-7 after it. Both sides of a comparison get the same replacement.
    """

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * (x * scale)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


@pytest.fixture
def make_model(double_precision_norm: None) -> MakeModel:
    """Return a builder of tiny float64 models with grouped-query attention and gates of all kinds."""

    def make(**overrides: Any) -> InfiniLlamaForCausalLM:
        torch.manual_seed(0)
        settings: dict[str, Any] = {
            "vocab_size": 61,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "segment_length": 8,
            # Far from the default 0.02: the tests should see the attention, not the residual stream around it.
            "initializer_range": 0.3,
        }
        model = InfiniLlamaForCausalLM(InfiniLlamaConfig(**settings | overrides)).double().eval()
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.gate, std=2.0)
        return model

    return make


@pytest.fixture
def tokens() -> torch.Tensor:
    """Return two rows of 29 tokens: three full segments of eight, and five tokens more."""
    return torch.randint(1, 61, (2, 29), generator=torch.Generator().manual_seed(1))
