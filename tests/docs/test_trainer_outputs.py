"""`docs/reference/json.md` has every key that the commands of `infini-llama` write, and no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from docs.generate.observed import faults
from docs.generate.trainer_outputs import OUTPUTS
from tests.infini_llama.cli.test_cli import train_arguments
from tests.infini_llama.cli.test_commands import llama_home
from tests.infini_llama.conftest import RunHere, gpt2_home, raw_data, run_here
from tests.infini_llama.forks import infini_llama_forked
from tests.infini_llama.train.test_run import CONFIG

# Fixtures of the trainer's own tests.
__all__ = ["gpt2_home", "llama_home", "raw_data", "run_here"]

DOCUMENTED = {output.call: output for output in OUTPUTS}


def printed(*words: object, run: RunHere = infini_llama_forked) -> list[Any]:
    """Return the JSON of each line that a command prints."""
    done = run(*words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(call: str, values: list[Any]) -> None:
    assert values
    assert faults(DOCUMENTED[call], values) == []


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG)
    return path


def test_what_prepare_and_train_write_is_documented(
    config: Path, raw_data: Path, gpt2_home: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    prepare = ("prepare", "--bundle", "tiny", "--config", config, "--hf-home", gpt2_home, "--json")
    one = printed(*prepare, "--raw-data", raw_data, "--output-dir", run)
    sources = f"data.sources=[{{raw_data: {raw_data}/a.txt, weight: 3}}, {{raw_data: {raw_data}/b.txt}}]"
    one += printed(*prepare, "--set", sources, "--output-dir", tmp_path / "mixed")
    check("infini-llama prepare --json", one)
    steps = ("--set", "training.steps=1", "--json")
    check("infini-llama train --json", printed(*train_arguments(config, raw_data, gpt2_home, run, *steps)))


def test_what_convert_and_commands_on_a_model_write_is_documented(
    llama_home: Path, raw_data: Path, tmp_path: Path, run_here: RunHere
) -> None:
    start = tmp_path / "start"
    convert = (
        "convert",
        "--bundle",
        "tiny",
        "--model",
        "llama",
        "--hf-home",
        llama_home,
        "--segment-length",
        "16",
    )
    check("infini-llama convert --json", printed(*convert, "--output-dir", start, "--json"))
    check("infini-llama eval --json", printed("eval", start, "--raw-data", raw_data, "--json", run=run_here))
    asked = printed("recall", start, "--segments", "6", "--prompts", "1", "--json", run=run_here)
    check("infini-llama recall CHECKPOINT --json", asked)


def test_what_recall_writes_is_documented(run_here: RunHere) -> None:
    words = ("--variant", "linear", "--seed", "0", "--steps", "1", "--segments", "2", "--json")
    check("infini-llama recall --json", printed("recall", *words, run=run_here))
