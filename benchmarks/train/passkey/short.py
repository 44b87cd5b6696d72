"""Train a small model of bytes to find passkeys, in a few minutes on one core; `make demo` runs this meanwhile.

It is the recipe of `make bench-passkey` (infini_llama/README.md, "Passkeys"), cut short after the rows of 640 bytes:
enough for passkeys that were read forty segments before, and not for a million bytes.

    python -m benchmarks.train.passkey.short DIR
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.train.passkey.run import SHAPE
from benchmarks.train.passkey.training import Stage, Training, small_model
from bundler.console.output import say
from infini_llama.data.tokenizers import byte_tokenizer

SEED = 3
SPREAD = 2.0
STAGES = (
    Stage(length=128, rows=64, steps=400, introduced=False, spread=(0.0, 0.0)),
    Stage(length=256, rows=32, steps=500, introduced=False, led=False, spread=(0.0, 0.0), local_rows=16),
    Stage(length=640, rows=16, steps=250, spread=(0.0, 1.0), local_rows=16),
)
_STEPS_SHOWN = 250


def train(folder: Path, stages: tuple[Stage, ...] = STAGES) -> None:
    """Train the model, and write it and its tokenizer into `folder`."""
    model = small_model({**SHAPE, "memory_write_spread": SPREAD}, SEED)
    steps = sum(stage.steps for stage in stages)

    def show(step: int, loss: float) -> None:
        if step % _STEPS_SHOWN == 0 or step == steps:
            say(f"passkeys, step {step}/{steps}  loss {loss:.3f}")

    with tempfile.TemporaryDirectory() as state:
        Training(model, stages, Path(state) / "state.pt", seed=SEED).run(show)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]))
