"""Two processes against one, with the same global batch: the same losses, and checkpoints that each other go on from.

All runs carry the memory over truncated back-propagation, add gradients up over two batches, recompute activations and
clip gradients.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from bundler.errors import UsageError
from bundler.home.home import Home
from infini_llama.errors import ConfigError
from infini_llama.parallel.initialize import initialize
from infini_llama.settings.sections import parse
from infini_llama.train import starting_model
from infini_llama.train.distribution import check_same_step
from infini_llama.train.run import train
from tests.infini_llama.cli.test_cli import train_arguments
from tests.infini_llama.forks import run_ranks
from tests.infini_llama.ranks import in_ranks
from tests.infini_llama.train.test_run import CONFIG

OPTIONS = (
    "data.segments_per_row=4",
    "training.backprop_segments=2",
    "training.gradient_accumulation_steps=2",
    "training.activation_checkpointing=true",
    "training.learning_rate=1e-2",
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return more text than six steps read: where rows run out, two processes are given other batches than one."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text(" ".join(str(number) for number in range(1000)))
    return path


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, gpt2_home: Path, text: Path) -> Path:
    """Return the folder of a run in one process, with two rows in a batch."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    bundle = Home(gpt2_home).bundle("tiny")
    train(parse(CONFIG, overrides=OPTIONS), bundle, raw_data=text, output_dir=folder)
    return folder


def in_two(kind: str, home: Path, text: Path, output_dir: Path, *more: str) -> dict[str, Any]:
    """Run in two processes with one row in a batch, and return the summary.

    They are forked; `tests.infini_llama.cli.test_cli` and `test_two_nodes` have torchrun start them.
    """
    config = output_dir.parent / "train.yaml"
    config.write_text(CONFIG)
    overrides = (*OPTIONS, "training.batch_size=1", f"training.distributed={kind}")
    options = [word for override in overrides for word in ("--set", override)]
    arguments = train_arguments(config, text, home, output_dir, "--json", *options, *more)
    done = run_ranks(2, arguments)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert f"2 processes, {kind}: the model is wrapped as {summary['wrapper']}" in done.stderr
    return summary


def losses(run: Path) -> list[float]:
    history = json.loads((run / "checkpoint-6" / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history]


def assert_same_run(run: Path, other: Path) -> None:
    assert losses(run) == pytest.approx(losses(other), abs=1e-5)
    weights, expected = (load_file(folder / "checkpoint-6" / "model.safetensors") for folder in (run, other))
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "wrapper"), [("ddp", "DistributedDataParallel"), ("fsdp2", "FSDPInfiniLlamaForCausalLM")]
)
def test_two_processes_have_the_losses_of_one(
    alone: Path, gpt2_home: Path, text: Path, tmp_path: Path, kind: str, wrapper: str
) -> None:
    summary = in_two(kind, gpt2_home, text, tmp_path / "run")
    assert (summary["world_size"], summary["wrapper"]) == (2, wrapper)
    assert_same_run(tmp_path / "run", alone)


def test_the_spread_grows_in_all_processes_alike(gpt2_home: Path, text: Path, tmp_path: Path) -> None:
    growing = ("--set", "model.memory_write_spread=4", "--set", "training.spread_warmup_steps=3")
    for kind in ("ddp", "fsdp2"):
        in_two(kind, gpt2_home, text, tmp_path / kind, *growing)
    assert_same_run(tmp_path / "fsdp2", tmp_path / "ddp")


def test_fsdp2_and_one_process_go_on_from_each_others_checkpoints(
    alone: Path, gpt2_home: Path, text: Path, tmp_path: Path
) -> None:
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    (sharded / "checkpoint-3").symlink_to(alone / "checkpoint-3")
    summary = in_two("fsdp2", gpt2_home, text, sharded, "--resume")
    assert summary["resumed_from"] == str(sharded / "checkpoint-3")
    assert_same_run(sharded, alone)

    bundle = Home(gpt2_home).bundle("tiny")
    more = parse(CONFIG, overrides=[*OPTIONS, "training.steps=7"])
    first, second = (
        train(more, bundle, raw_data=text, output_dir=tmp_path / name, resume_from=run / "checkpoint-6")
        for name, run in (("first", sharded), ("second", alone))
    )
    assert first.last_loss == pytest.approx(second.last_loss, abs=1e-5)
    assert first.resumed_from == str(sharded / "checkpoint-6")


def test_another_wrapper_than_was_asked_for_is_refused(
    gpt2_home: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a model is not shared among the ranks: accelerate wraps it with DDP, without a word."""
    monkeypatch.setattr(starting_model, "build_sharded", lambda config, weights, **_: initialize(config))
    config = tmp_path / "train.yaml"
    config.write_text(CONFIG)
    options = ("--set", "training.distributed=fsdp2")
    done = run_ranks(2, train_arguments(config, text, gpt2_home, tmp_path / "run", *options))
    assert done.returncode == ConfigError.exit_code
    assert "expected fsdp2, found the model wrapped as DistributedDataParallel" in done.stderr
    assert not list(tmp_path.glob("run/checkpoint-*"))


def test_ranks_that_begin_at_different_steps_are_refused(tmp_path: Path) -> None:
    def begin(step: int) -> str:
        try:
            check_same_step(step, distributed.group.WORLD)
        except UsageError as error:
            return error.message
        return "same"

    assert in_ranks(2, lambda rank: begin(7), tmp_path) == ["same", "same"]
    found = in_ranks(2, lambda rank: begin(rank * 10), tmp_path)
    assert found == ["the ranks begin at different steps: 0, 10, in the order of ranks"] * 2
