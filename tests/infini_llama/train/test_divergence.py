"""A run whose numbers are lost: it ends, and keeps the checkpoints from before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from bundler.home.installed import InstalledBundle
from infini_llama.errors import DivergenceError
from infini_llama.run_folder.checkpoints import list_checkpoints
from infini_llama.train.divergence import check_weights
from infini_llama.train.run import train
from tests.infini_llama.train.test_run import configured


def test_a_loss_that_is_not_finite_ends_the_run_and_is_the_last_line_of_its_metrics(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    output_dir = tmp_path / "run"
    settings = configured("training.learning_rate=1e30", "training.max_grad_norm=0")
    with pytest.raises(DivergenceError, match="expected finite numbers, found loss nan") as caught:
        train(settings, gpt2_bundle, raw_data=raw_data, output_dir=output_dir)
    assert caught.value.exit_code == 19
    assert caught.value.hint is not None and caught.value.hint.startswith(
        "start again with a lower training.learning_rate"
    )
    lines = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] is None and lines[0]["loss"] > 0
    assert list_checkpoints(output_dir) == []


def test_weights_that_are_not_finite_are_not_saved_over_those_that_are(
    gpt2_bundle: InstalledBundle, raw_data: Path, tmp_path: Path
) -> None:
    output_dir = tmp_path / "run"
    settings = configured(
        *("training.learning_rate=1e30", "training.max_grad_norm=0"),
        *("training.log_every_steps=1000", "training.checkpoint_every_steps=1"),
    )
    with pytest.raises(DivergenceError, match=r"step 2: .* weights of model\..* that are not finite") as caught:
        train(settings, gpt2_bundle, raw_data=raw_data, output_dir=output_dir)
    assert f"continue from {output_dir / 'checkpoint-1'} with --resume" in str(caught.value)
    assert [path.name for path in list_checkpoints(output_dir)] == ["checkpoint-1"]


def test_finite_weights_pass(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    check_weights(model, Accelerator(cpu=True), tmp_path, 1)
    with torch.no_grad():
        model.bias[1] = torch.inf
    with pytest.raises(DivergenceError, match="weights of bias that are not finite"):
        check_weights(model, Accelerator(cpu=True), tmp_path, 1)
