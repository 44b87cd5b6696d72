"""The gated DeltaNet of `make bench-recall`: equal to a literal loop over its equations, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig

from benchmarks.train.gated_delta_net import DeltaNetState, GatedDeltaNetForCausalLM, gated_delta_rule

ROWS, HEADS, WIDTH = 2, 3, 5


def draw(tokens: int) -> tuple[Tensor, ...]:
    """Return queries, keys, values, logarithms of alpha, beta, and S."""
    generator = torch.Generator().manual_seed(tokens)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    queries, keys, values = (normal(ROWS, tokens, HEADS, WIDTH) for _ in range(3))
    keys = keys / keys.norm(dim=-1, keepdim=True)
    log_alpha, beta = -normal(ROWS, tokens, HEADS).exp(), normal(ROWS, tokens, HEADS).sigmoid()
    return queries, keys, values, log_alpha, beta, normal(ROWS, HEADS, WIDTH, WIDTH)


def literal(
    queries: Tensor, keys: Tensor, values: Tensor, log_alpha: Tensor, beta: Tensor, matrix: Tensor
) -> tuple[Tensor, Tensor]:
    """Equation 10, one row, head and token after another."""
    outputs, last = torch.zeros_like(values), matrix.clone()
    identity = torch.eye(WIDTH, dtype=torch.float64)
    for row in range(ROWS):
        for head in range(HEADS):
            s = matrix[row, head]
            for t in range(keys.shape[1]):
                k, v, b = keys[row, t, head], values[row, t, head], beta[row, t, head]
                alpha = log_alpha[row, t, head].exp()
                s = s @ (alpha * (identity - b * torch.outer(k, k))) + b * torch.outer(v, k)
                outputs[row, t, head] = s @ queries[row, t, head]
            last[row, head] = s
    return outputs, last


@pytest.mark.parametrize("tokens", [1, 16, 41])
def test_chunks_give_what_the_literal_loop_gives_with_its_gradients(tokens: int) -> None:
    arguments = draw(tokens)
    ours = [x.clone().requires_grad_() for x in arguments]
    loops = [x.clone().requires_grad_() for x in arguments]
    found, expected = gated_delta_rule(*ours), literal(*loops)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for result in (found, expected):
        (result[0].sin().sum() + result[1].cos().sum()).backward()
    for a, b in zip(ours, loops, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-10)


def test_a_gate_that_shuts_at_once_forgets_and_overflows_nowhere() -> None:
    queries, keys, values, log_alpha, beta, matrix = draw(20)
    outputs, last = gated_delta_rule(queries, keys, values, log_alpha - 1000, beta, matrix)
    for t in range(20):
        alone = beta[:, t, :, None] * values[:, t] * (keys[:, t] * queries[:, t]).sum(-1, keepdim=True)
        torch.testing.assert_close(outputs[:, t], alone, rtol=0, atol=1e-12)
    assert last.isfinite().all()


@pytest.fixture
def model() -> GatedDeltaNetForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=12,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=3,
        initializer_range=0.5,
    )
    return GatedDeltaNetForCausalLM(config, embedding_dropout=0.3).eval()


@torch.no_grad()
def test_a_stream_may_be_cut_anywhere(model: GatedDeltaNetForCausalLM) -> None:
    tokens = torch.randint(11, (2, 40), generator=torch.Generator().manual_seed(1))
    expected = model(tokens).logits
    state, parts = DeltaNetState(), []
    for part in tokens.split([1, 2, 20, 17], dim=1):
        parts.append(model(part, past_key_values=state).logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-4)
    kept = copy.deepcopy(state)
    model(tokens[:, :3], past_key_values=kept)
    assert not torch.equal(kept.matrices[0], state.matrices[0])


def test_the_loss_is_that_of_the_next_tokens_and_dropout_is_for_training(model: GatedDeltaNetForCausalLM) -> None:
    tokens = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(1))
    labels = tokens.clone()
    labels[:, :5] = -100
    result = model(tokens, labels=labels, num_items_in_batch=8)
    logits = result.logits[:, 4:8].log_softmax(-1)
    expected = -logits.gather(2, tokens[:, 5:].unsqueeze(2)).sum() / 8
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(model(tokens, logits_to_keep=1).logits, result.logits[:, -1:])
    assert not torch.allclose(model.train()(tokens).logits, result.logits, atol=1e-3)
