"""The operations of a model, beside those that torch counts in it."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from infini_llama import InfiniLlamaConfig, InfiniLlamaForCausalLM
from infini_llama.train.flops import forward_flops, training_flops

ROWS, SEGMENTS = 2, 4


@pytest.mark.parametrize("rule", ["linear", "delta"])
@pytest.mark.parametrize("shared", [4, 2])
def test_operations_are_those_that_torch_counts(rule: str, shared: int) -> None:
    config = InfiniLlamaConfig(
        vocab_size=160,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=shared,
        segment_length=32,
        memory_update=rule,
        attn_implementation="eager",
    )
    with torch.device("meta"):
        model = InfiniLlamaForCausalLM(config)
        ids = torch.zeros(ROWS, SEGMENTS * 32, dtype=torch.long)
    counter = FlopCounterMode(display=False)
    with counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    # RoPE's angles are a product of matrices, too; nobody counts them.
    assert counter.get_total_flops() / ids.numel() == pytest.approx(training_flops(config), rel=0.01)
    assert training_flops(config) == 3 * forward_flops(config)
