"""The count of a rank's memory and messages, where it can be worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.train.scale import CASES, SHAPES, Count, count_step, markdown


@pytest.fixture(scope="module")
def count() -> Count:
    return count_step("tiny", 4, 2)


def test_a_rank_holds_its_share_of_weights_and_moments(count: Count) -> None:
    share = count.parameters * 4 / 4
    # And the frequencies of RoPE, and the number of steps of each weight.
    assert count.weights == pytest.approx(share, rel=1e-3)
    assert count.at_rest == pytest.approx(3 * share, rel=1e-3)


def test_layers_are_gathered_in_bfloat16_and_all_is_reduced_in_float32_for_each_part(count: Count) -> None:
    embeddings = 32000 * 64
    layers = count.parameters - 2 * embeddings
    assert count.reduced == pytest.approx(2 * 4 * count.parameters, rel=1e-3)
    # Layers for the forward and for the backward pass; embeddings and head for the forward pass.
    least, most = 2 * (2 * 2 * layers + 2 * 4 * embeddings), 2 * (2 * 2 * layers + 4 * 4 * embeddings)
    assert 0.99 * least < count.gathered < 1.01 * most


def test_the_table_has_a_line_for_each_case(count: Count) -> None:
    lines = markdown(dict.fromkeys(CASES, count)).splitlines()
    assert len(lines) == 2 + len(CASES)
    assert {shape for shape, _, _ in CASES} <= set(SHAPES)
