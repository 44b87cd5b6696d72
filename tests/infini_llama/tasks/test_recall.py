"""The mechanism learns: a small form of the recall task, in seconds. The full one is `infini-llama recall`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from infini_llama.data import IGNORED
from infini_llama.tasks.recall import (
    RecallTask,
    recall_accuracies,
    recall_accuracy,
    recall_model,
    shut_gates,
    train_recall,
)
from infini_llama.train.truncation import split_into_parts

SMALL = RecallTask(bindings=2, keys=4, values=8, noise=4, segment_length=8)
CHANCE = 1 / 8


def test_rows_hide_bindings_in_the_first_segment_and_ask_for_them_in_the_last() -> None:
    tokens, labels = SMALL.rows(64, 3, torch.Generator().manual_seed(0))
    assert tokens.shape == (64, 24)
    is_binding = tokens < SMALL.keys * SMALL.values
    assert (is_binding[:, :8].sum(1) == 2).all()
    assert not is_binding[:, 8:].any()
    for row, answers in zip(tokens, labels, strict=True):
        hidden = {divmod(int(t), SMALL.values) for t in row[:8] if t < 32}
        asked = {(int(row[i]) - 32, int(row[i + 1]) - 36) for i in (20, 22)}
        assert asked == hidden
        assert [i for i, label in enumerate(answers) if label != IGNORED] == [21, 23]


@pytest.mark.parametrize("memory_update", ["linear", "delta"])
def test_a_memory_learns_to_recall_over_more_segments_than_it_was_trained_on(memory_update: str) -> None:
    model = recall_model(SMALL, memory_update=memory_update)
    train_recall(model, SMALL, steps=150)
    assert recall_accuracy(model, SMALL, segments=3) > 6 * CHANCE
    assert recall_accuracy(model, SMALL, segments=16) > 6 * CHANCE


def test_with_the_gates_shut_the_answer_stays_a_guess() -> None:
    model = recall_model(SMALL)
    shut_gates(model)
    train_recall(model, SMALL, steps=80)
    assert abs(recall_accuracy(model, SMALL, segments=3, rows=1024) - CHANCE) < 0.04


def test_with_the_gradient_cut_between_segments_the_answer_stays_a_guess() -> None:
    model = recall_model(SMALL)
    train_recall(model, SMALL, steps=100, detached=True)
    assert abs(recall_accuracy(model, SMALL, segments=3, rows=1024) - CHANCE) < 0.04


def test_a_gradient_that_may_pass_all_segments_is_that_of_the_whole_row() -> None:
    """`detached` and plain training share their loop; one part must be what the model's own loss gives."""
    tokens, labels = SMALL.rows(8, 3, torch.Generator().manual_seed(0))
    model = recall_model(SMALL).eval()
    model(tokens, labels=labels, use_cache=False).loss.backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    (part,) = split_into_parts({"input_ids": tokens, "labels": labels}, 24, 2)
    model(**part, num_items_in_batch=8 * SMALL.bindings).loss.backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name])


def test_rows_that_are_read_as_streams_and_asked_on_the_way_are_answered_as_whole_rows_are() -> None:
    """The answers of a model that knows nothing differ from question to question, so equal shares are equal answers."""
    model, lengths, rows = recall_model(SMALL), [40, 2, 33, 2], 16
    tokens, labels = SMALL.rows(rows, 40, torch.Generator().manual_seed(3))
    expected = []
    for length in lengths:
        # What is read until then, and the last segment.
        kept = torch.cat((torch.arange((length - 1) * 8), torch.arange(39 * 8, 40 * 8)))
        with torch.no_grad():
            answers = model.eval()(tokens[:, kept], use_cache=False).logits[:, :-1].argmax(-1)
        asked = labels[:, kept][:, 1:]
        expected.append(float((answers == asked)[asked != IGNORED].float().mean()))
    assert recall_accuracies(model, SMALL, lengths=lengths, rows=rows, seed=3) == expected
    assert recall_accuracy(model, SMALL, segments=40, rows=rows, seed=3) == expected[0]


def test_the_spread_grows_over_the_first_half_of_the_training_and_is_then_what_was_configured() -> None:
    seen: list[float | None] = []

    def look(_: object, __: object, given: dict[str, Any]) -> None:
        spread = given.get("write_spread")
        seen.append(spread if spread is None else spread.tolist())

    model, plain = recall_model(SMALL, spread=4.0), recall_model(SMALL)
    for watched, steps in ((model, 8), (plain, 2)):
        watched.register_forward_pre_hook(look, with_kwargs=True)
        train_recall(watched, SMALL, steps=steps, batch_size=2)
    assert seen == [1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0, 4.0, None, None]
    assert model.config.memory_write_spread == 4.0
