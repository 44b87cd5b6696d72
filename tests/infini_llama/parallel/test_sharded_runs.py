"""FSDP2 against one process with the same global batch; the program `sharded_runs` has trained both.

All runs carry the memory over truncated back-propagation, add gradients up over two batches, recompute activations and
clip gradients.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.infini_llama.conftest import run_program


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_program("tests.infini_llama.parallel.sharded_runs", tmp_path_factory.mktemp("runs"))


def test_a_sharded_model_starts_and_learns_as_one_process_does(shown: dict[str, Any]) -> None:
    assert shown["two"] == pytest.approx(shown["one"], abs=1e-5)


def test_in_bfloat16_it_is_as_near_as_that_rounds(shown: dict[str, Any]) -> None:
    assert shown["two_bfloat16"] == pytest.approx(shown["one_bfloat16"], abs=5e-3)


def test_weights_of_layers_travel_in_bfloat16_and_the_memory_stays_in_float32(shown: dict[str, Any]) -> None:
    assert shown["seen"]["gathered"] == ["torch.bfloat16"]
    assert shown["seen"]["memory"] == ["torch.float32"]


def test_each_part_of_a_row_leaves_its_gradients_as_shares_in_float32(shown: dict[str, Any]) -> None:
    assert shown["seen"]["gradients"] == ["True"]
    assert shown["seen"]["shares"] == ["torch.float32"]


def test_the_loss_needs_no_logits_of_whole_rows(shown: dict[str, Any]) -> None:
    assert shown["seen"]["logits skipped"] == ["True"]


def test_each_rank_writes_its_shards_and_none_writes_whole_weights(shown: dict[str, Any]) -> None:
    assert shown["shard_files"] == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    assert not {"model.safetensors", "optimizer.pt"} & set(shown["files"])
    assert {"config.json", "modeling_infini_llama.py", "provenance.json", "tokenizer.json"} <= set(shown["files"])


def test_a_checkpoint_that_is_written_in_the_background_disturbs_no_step(shown: dict[str, Any]) -> None:
    assert shown["two_in_shards"] == pytest.approx(shown["two"], abs=0)


@pytest.mark.parametrize("run_name", ["four_from_two", "one_from_two"])
def test_a_run_goes_on_with_another_number_of_ranks(shown: dict[str, Any], run_name: str) -> None:
    """Optimizer state and all: after the resume a run has the losses of one that was never interrupted."""
    assert shown[run_name] == pytest.approx(shown["one"], abs=1e-5)


def test_an_export_holds_the_weights_that_one_process_would_have_saved(shown: dict[str, Any]) -> None:
    assert shown["parameters"] == 6082
    assert shown["largest_difference"] < 1e-4


def test_ranks_that_share_rows_train_as_one_process_does(shown: dict[str, Any]) -> None:
    assert shown["four_in_context"] == pytest.approx(shown["one_whole_rows"], abs=1e-5)
    assert shown["tokens"][0] == shown["tokens"][1]


@pytest.mark.parametrize(
    ("many", "one", "apart"), [("two", "one", 1e-5), ("four", "one", 1e-5), ("two-bfloat16", "one-bfloat16", 1e-2)]
)
def test_ranks_that_share_an_evaluation_find_what_one_process_finds(
    shown: dict[str, Any], many: str, one: str, apart: float
) -> None:
    found, expected = shown["stretches"][many], shown["stretches"][one]
    assert [(s["first"], s["last"], s["tokens"]) for s in found] == [
        (s["first"], s["last"], s["tokens"]) for s in expected
    ]
    for kind in ("with_memory", "without_memory"):
        assert [s[kind] for s in found] == pytest.approx([s[kind] for s in expected], rel=apart)
