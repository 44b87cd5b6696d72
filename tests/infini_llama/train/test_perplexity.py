from __future__ import annotations

import math

import torch

from infini_llama.train.perplexity import perplexities, share_out, shut_gates_for_now
from tests.infini_llama.conftest import MakeModel


def documents() -> list[torch.Tensor]:
    """Return documents of 1, 8, 29 and 75 tokens: up to ten segments of eight."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 61, (length,), generator=generator) for length in (1, 8, 29, 75)]


def test_every_token_but_a_documents_first_is_counted_in_its_own_segment(make_model: MakeModel) -> None:
    stretches = perplexities(make_model(), documents())
    assert [(s.first, s.last, s.tokens) for s in stretches] == [
        (1, 1, 7 + 7 + 7),
        (2, 2, 8 + 8),
        (3, 4, 8 + 5 + 16),
        (5, 8, 32),
        (9, 16, 11),
        (1, 16, 7 + 28 + 74),
    ]


def test_the_perplexity_is_that_of_one_pass(make_model: MakeModel) -> None:
    model, (*_, document) = make_model(), documents()
    loss = model(document[None], labels=document[None], use_cache=False).loss
    assert math.isclose(perplexities(model, [document])[-1].with_memory, math.exp(loss.item()), rel_tol=1e-5)


def test_the_first_segment_knows_no_difference_and_later_ones_do(make_model: MakeModel) -> None:
    first, second, *_ = perplexities(make_model(), documents())
    assert first.with_memory == first.without_memory
    assert abs(second.with_memory - second.without_memory) > 1e-3


def test_without_memory_means_gates_shut_and_they_open_again(make_model: MakeModel) -> None:
    model = make_model()
    before = [layer.self_attn.gate.bias.clone() for layer in model.model.layers]
    with shut_gates_for_now(model):
        assert all(torch.sigmoid(layer.self_attn.gate.bias).eq(0).all() for layer in model.model.layers)
    assert all(
        torch.equal(layer.self_attn.gate.bias, gate)
        for layer, gate in zip(model.model.layers, before, strict=True)
    )


def test_ranks_share_work_out_and_none_has_much_more() -> None:
    shares = share_out([1, 8, 3, 3, 2, 9, 0], 3)
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert [sum([1, 8, 3, 3, 2, 9, 0][index] for index in share) for share in shares] == [9, 9, 8]


def test_nothing_to_predict_gives_no_table(make_model: MakeModel) -> None:
    assert perplexities(make_model(), [torch.tensor([3])]) == []
