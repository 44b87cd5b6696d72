"""Trainers that are not ours, unchanged, through `bundle run --strict`: they know nothing of bundles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.matrix.test_matrix import BAD
from tests.offline.conftest import COUNTING, KINDS
from tests.support.process import run, script

pytestmark = pytest.mark.slow

# As a tutorial has it: a model, a tokenizer and a dataset by name.
PROGRAM = """
import gc
import sys
import torch
from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained("org/tiny")
tokenizer.pad_token = "[PAD]"
rows = load_dataset("org/Lines", split="train").map(lambda row: tokenizer(row["text"]), remove_columns=["text"])
trainer = Trainer(
    model=AutoModelForCausalLM.from_pretrained("org/tiny"),
    args=TrainingArguments(sys.argv[1], max_steps=2, per_device_train_batch_size=1, use_cpu=True, save_steps=1),
    train_dataset=rows,
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
)
trainer.train()
trainer.save_model()
if trainer.is_world_process_zero():
    print("processes", trainer.args.world_size)
if torch.distributed.is_initialized():
    # Left to the end of the interpreter, gloo's threads sometimes abort it. They end with the last who holds the group,
    # and the trainer's model does.
    del trainer
    gc.collect()
    torch.distributed.destroy_process_group()
"""


def trained(bundle: Path, tmp_path: Path, *words: str | Path, isolate: str) -> tuple[int, int, list[str], str]:
    """Run a launcher on the program; returns attempts, steps done, files of the saved model, and the last line."""
    run([script("bundle"), "install", bundle, "--hf-home", tmp_path / "hf"])
    program, output, report = tmp_path / "train.py", tmp_path / "output", tmp_path / "report.json"
    program.write_text(PROGRAM)
    argv: list[str | Path] = [
        script("bundle"),
        "run",
        "--hf-home",
        tmp_path / "hf",
        "--strict",
        "--isolate",
        isolate,
    ]
    argv += ["--report", report, "--", *words, program, output]
    done = run(argv, env={**BAD, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}, cwd=tmp_path)
    state = json.loads((output / "checkpoint-2" / "trainer_state.json").read_text())
    total = json.loads(report.read_text())["attempts"]["total"]
    return (
        total,
        state["global_step"],
        sorted(path.name for path in output.glob("model*")),
        done.stdout.splitlines()[-1],
    )


@pytest.mark.programs
def test_the_trainer_of_transformers_in_a_plain_script(matrix_bundle: Path, tmp_path: Path) -> None:
    ends = trained(matrix_bundle, tmp_path, script("python"), isolate="auto")
    assert ends == (0, 2, ["model.safetensors"], "processes 1")


@pytest.mark.programs
def test_accelerate_launch(matrix_bundle: Path, tmp_path: Path) -> None:
    words = [script("accelerate"), "launch", "--cpu", "--num_processes", "1", "--num_machines", "1"]
    words += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    ends = trained(matrix_bundle, tmp_path, *words, isolate="auto")
    assert ends == (0, 2, ["model.safetensors"], "processes 1")


@pytest.mark.parametrize(
    "isolate",
    # The first is what `auto` takes; under the others torchrun is tried by tests/offline/kernel/test_nodes.py, too.
    [
        pytest.param(kind, marks=[pytest.mark.programs] if number else [])
        for number, kind in enumerate(kind for kind in KINDS if kind in COUNTING)
    ],
)
def test_the_trainer_of_transformers_on_two_processes(matrix_bundle: Path, tmp_path: Path, isolate: str) -> None:
    ends = trained(matrix_bundle, tmp_path, script("torchrun"), "--nproc-per-node", "2", isolate=isolate)
    assert ends == (0, 2, ["model.safetensors"], "processes 2")
