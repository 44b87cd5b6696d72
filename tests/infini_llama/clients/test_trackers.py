"""Weights & Biases and MLflow, without a network, by transformers' own callbacks: `make test-clients`."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.infini_llama.train.test_run import CONFIG
from tests.support.process import run

SITE = Path(__file__).parents[3] / ".clients" / "trackers"
if not SITE.is_dir():
    pytest.skip("`make test-clients` installs the programs", allow_module_level=True)

pytestmark = pytest.mark.slow

OURS = {
    "tokens_per_second",
    "tokens_per_second_per_device",
    "tflops_per_device",
    "gate_mean",
    "learning_rate/gates",
}


def train(folder: Path, tracker: str) -> Path:
    """Train six steps in an empty home, and return the run's folder; the report must count no attempt."""
    text = folder / "text.txt"
    text.write_text("The cat sat on the mat, and the dog sat by the door. " * 40)
    config = folder / "train.yaml"
    config.write_text(CONFIG.replace("tokenizer: gpt2", "tokenizer: bytes\ntokenizer_fallback: byte"))
    command = [
        Path(sys.executable).with_name("infini-llama"),
        "train",
        "--offline-mode",
        "--json",
        "--config",
        config,
    ]
    command += ["--raw-data", text, "--output-dir", folder / "run", "--set", f"training.report_to={tracker}"]
    done = run(command, env={"PYTHONPATH": str(SITE), "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"})
    assert json.loads(done.stdout)["network_attempts"] == 0
    return folder / "run"


def test_mlflow_gets_the_measurements_of_each_step(tmp_path: Path) -> None:
    database = sqlite3.connect(train(tmp_path, "mlflow") / "mlflow.db")
    names = {name for (name,) in database.execute("select key from metrics where step = 6")}
    assert names >= OURS | {"loss", "grad_norm"}


def test_wandb_writes_a_run_that_can_be_sent_later(tmp_path: Path) -> None:
    (recorded,) = (train(tmp_path, "wandb") / "wandb").glob("offline-run-*/run-*.wandb")
    content = recorded.read_bytes()
    assert [name for name in OURS if f"train/{name}".encode() not in content] == []
    assert os.fsencode("train/loss") in content
