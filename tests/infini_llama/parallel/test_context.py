"""Rows that several ranks share, beside whole ones; the program `context_runs` has computed both."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch

from infini_llama.errors import ConfigError
from infini_llama.parallel.context import ContextGroup, RowShare, find_context, take_share
from tests.infini_llama.conftest import MakeModel
from tests.infini_llama.parallel.context_runs import SEGMENT, make_rows
from tests.support.process import run


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.infini_llama.parallel.context_runs", tmp_path_factory.mktemp("runs")]
    found: dict[str, Any] = json.loads(run(command, env={"OMP_NUM_THREADS": "1"}).stdout)
    return found


@pytest.mark.parametrize("kind", ["one", "packed", "shared"])
@pytest.mark.parametrize("rule", ["linear", "delta"])
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_have_the_loss_and_the_gradients_of_one_process(
    shown: dict[str, Any], size: int, rule: str, kind: str
) -> None:
    """In float64, but for the loss, which the library computes in float32; four ranks recompute activations."""
    loss, gradients = shown[f"{size} {rule} {kind}"]
    assert loss < 1e-6
    assert gradients < 1e-12


def test_the_memory_of_other_ranks_matters_to_the_loss(shown: dict[str, Any]) -> None:
    assert shown["forgotten"] > 1e-3


def ranks(rank: int = 0, size: int = 2) -> ContextGroup:
    return ContextGroup(group=None, rank=rank, size=size)


def test_every_label_is_predicted_by_one_rank() -> None:
    rows = make_rows("packed")
    shares = [take_share(rows, ranks(rank), SEGMENT, share_segments=False) for rank in range(2)]
    shifted = torch.cat([share["shift_labels"] for share in shares], dim=1)
    assert shifted[:, :-1].tolist() == rows["labels"][:, 1:].tolist()


def test_rows_are_not_cut_inside_a_segment() -> None:
    with pytest.raises(ValueError, match="multiple of 3 x 4 tokens, found 32"):
        take_share(make_rows("one"), ranks(size=3), SEGMENT, share_segments=False)
    rows = make_rows("one")
    rows["attention_mask"][:, :2] = 0
    with pytest.raises(ValueError, match="goes on inside a segment"):
        take_share(rows, ranks(1), SEGMENT, share_segments=False)


def test_a_share_of_rows_keeps_no_state(make_model: MakeModel, tokens: torch.Tensor) -> None:
    share = RowShare(ranks=ranks(), before=None, reaching=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected no cache with a share of rows"):
        make_model()(tokens, row_share=share, use_cache=True)


def test_processes_that_do_not_come_out_even_are_refused() -> None:
    with pytest.raises(ConfigError, match="a number of processes that 2 divides, found 3"):
        find_context(2, 3)
