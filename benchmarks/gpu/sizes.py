"""How large the parts of `make gpu-check` are: for one card, and tiny ones that a test runs on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.import_utils import is_flash_attn_2_available

from infini_llama import InfiniLlamaConfig, InfiniLlamaForCausalLM


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is built and measured.

    Attributes:
        shape: Keys of the model whose speed is measured.
        segment: Tokens of its segments.
        trained: Lengths of rows that are trained on, rising.
        in_parts: Rows longer than this are trained on in parts of so many tokens, the memory carried on.
        contexts: Tokens that are read before decoding, rising.
        decoded: Tokens that are then decoded.
        compiled: Tokens of the row that the compiled model trains on.
        steps: Steps that are timed, after one that is not.
        gemm: Width of the square matrices whose product is timed.
        backend: What compiles.
    """

    shape: dict[str, Any]
    segment: int
    trained: tuple[int, ...]
    in_parts: int
    contexts: tuple[int, ...]
    decoded: int
    compiled: int
    steps: int
    gemm: int
    backend: str

    @property
    def vocabulary(self) -> int:
        """Number of different tokens."""
        return int(self.shape["vocab_size"])


# Half a billion parameters: the weights, AdamW's moments and the longest row fit on a card of 40 GB.
FULL = Sizes(
    shape={
        "vocab_size": 32000,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
    },
    segment=2048,
    trained=(4096, 16384, 65536, 131072),
    in_parts=16384,
    contexts=(2048, 32768, 131072),
    decoded=64,
    compiled=16384,
    steps=3,
    gemm=8192,
    backend="inductor",
)
TINY = Sizes(
    shape={
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
    segment=16,
    trained=(32, 128),
    in_parts=64,
    contexts=(32, 64),
    decoded=2,
    compiled=32,
    steps=1,
    gemm=64,
    backend="eager",
)


def llama(shape: dict[str, Any], implementation: str) -> LlamaForCausalLM:
    """Return a stock Llama for rows of any length.

    Args:
        shape: Keys of its configuration.
        implementation: Of the attention, as transformers names it.
    """
    return LlamaForCausalLM(LlamaConfig(**_all_keys(shape, implementation)))


def ours(
    shape: dict[str, Any], implementation: str, segment: int, memory_update: Literal["linear", "delta"] = "linear"
) -> InfiniLlamaForCausalLM:
    """Return an Infini-Llama with these keys.

    Args:
        shape: Keys of its configuration.
        implementation: Of the local attention.
        segment: Tokens of a segment.
        memory_update: The rule of the memory.
    """
    keys = _all_keys(shape, implementation)
    return InfiniLlamaForCausalLM(InfiniLlamaConfig(**keys, segment_length=segment, memory_update=memory_update))


def _all_keys(shape: dict[str, Any], implementation: str) -> dict[str, Any]:
    return {
        "max_position_embeddings": 1 << 20,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": True,
        **shape,
        "attn_implementation": implementation,
    }


def fused_implementations(device: torch.device) -> list[str]:
    """Return the fused attentions that this machine has, SDPA first."""
    return ["sdpa", *(["flash_attention_2"] if device.type == "cuda" and is_flash_attn_2_available() else [])]
