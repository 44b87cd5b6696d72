"""The mechanism learns: a small form of the recall task, in seconds. The full one is `infini-llama recall`."""

from __future__ import annotations

import torch

from infini_llama.data import IGNORED
from infini_llama.recall import RecallTask, recall_accuracy, recall_model, shut_gates, train_recall

SMALL = RecallTask(bindings=2, keys=4, values=8, noise=4)
CHANCE = 1 / 8


def test_rows_hide_bindings_in_the_first_segment_and_ask_for_them_in_the_last() -> None:
    tokens, labels = SMALL.rows(64, 3, torch.Generator().manual_seed(0))
    assert tokens.shape == (64, 48)
    is_binding = tokens < SMALL.keys * SMALL.values
    assert (is_binding[:, :16].sum(1) == 2).all()
    assert not is_binding[:, 16:].any()
    for row, answers in zip(tokens, labels, strict=True):
        hidden = {divmod(int(t), SMALL.values) for t in row[:16] if t < 32}
        asked = {(int(row[i]) - 32, int(row[i + 1]) - 36) for i in (44, 46)}
        assert asked == hidden
        assert [i for i, label in enumerate(answers) if label != IGNORED] == [45, 47]


def test_a_linear_memory_learns_to_recall_over_more_segments_than_it_was_trained_on() -> None:
    model = recall_model(SMALL)
    train_recall(model, SMALL, steps=200, batch_size=32)
    assert recall_accuracy(model, SMALL, segments=3) > 3 * CHANCE
    assert recall_accuracy(model, SMALL, segments=8) > 3 * CHANCE


def test_with_the_gates_shut_the_answer_stays_a_guess() -> None:
    model = recall_model(SMALL)
    shut_gates(model)
    train_recall(model, SMALL, steps=80, batch_size=32)
    assert abs(recall_accuracy(model, SMALL, segments=3, rows=1024) - CHANCE) < 0.04
