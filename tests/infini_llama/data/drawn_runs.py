"""Train on a mixture, straight and with kills, and print which rows each step drew, in JSON.

It is a program of its own since it forks: a fork of a test runner with threads may hang.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from bundler.files.digest import sha256_bytes
from infini_llama.run_folder import checkpoints
from infini_llama.settings.sections import parse
from infini_llama.train.run import train
from infini_llama.train.trainer import InfiniTrainer
from tests.infini_llama.ranks import in_ranks
from tests.infini_llama.train.test_run import CONFIG

OPTIONS = (
    "tokenizer=no/such",
    "tokenizer_fallback=byte",
    "data.segments_per_row=2",
    "training.gradient_accumulation_steps=2",
    "training.checkpoint_every_steps=2",
)


class Runs:
    """Runs in a folder, on a mixture of two sources of which one is much smaller than what is drawn from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, words in (("large", 400), ("small", 12)):
            (folder / f"{name}.txt").write_text(" ".join(f"{name} {number}" for number in range(words)))
        self.mixture = (
            "data.sources=[{raw_data: %s/large.txt, weight: 0.7}, {raw_data: %s/small.txt, weight: 0.3}]"
        )
        self.mixture %= (folder, folder)

    def train(self, name: str, *more: str, killed_at: int | None = None, resume: bool = False) -> None:
        """Train in this process, and write down what each step is given; die by SIGKILL at a step if so asked."""
        run, note = self.folder / name, self.folder / f"{name}-{os.environ.get('RANK', '0')}.jsonl"
        step = InfiniTrainer.training_step

        def watched(trainer: Any, model: Any, inputs: Any, *arguments: Any) -> torch.Tensor:
            with note.open("a") as stream:
                rows = [sha256_bytes(bytes(row.to(torch.uint8).tolist()))[:8] for row in inputs["input_ids"] % 251]
                stream.write(json.dumps([trainer.state.global_step + 1, rows]) + "\n")
            if trainer.state.global_step == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(trainer, model, inputs, *arguments)

        settings = parse(CONFIG, overrides=[*OPTIONS, self.mixture, *more])
        resume_from = checkpoints.find_latest(run) if resume else None
        InfiniTrainer.training_step = watched  # type: ignore[assignment, method-assign]
        try:
            train(settings, None, output_dir=run, resume_from=resume_from)
        finally:
            InfiniTrainer.training_step = step  # type: ignore[method-assign]

    def killed(self, name: str, at: int) -> int:
        """Train in a child that dies at a step; return the signal."""
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            self.train(name, killed_at=at)
            os._exit(0)
        return os.WTERMSIG(os.waitpid(child, 0)[1])

    def drawn(self, name: str) -> dict[int, list[str]]:
        """Return step -> digests of the rows, of all ranks; a step that was done again counts as it was then."""
        found: dict[int, list[str]] = {}
        for file in sorted(self.folder.glob(f"{name}-*.jsonl")):
            mine: dict[int, list[str]] = {}
            before = 0
            for line in file.read_text().splitlines():
                number, rows = json.loads(line)
                mine[number] = [*mine[number], *rows] if number == before else rows
                before = number
            for number, rows in mine.items():
                found[number] = sorted([*found.get(number, []), *rows])
        return found

    def weights(self, name: str) -> str:
        """Return a digest of the last weights of a run of six steps."""
        return sha256_bytes((self.folder / name / "checkpoint-6" / "model.safetensors").read_bytes())


def main(folder: Path) -> None:
    """Train as the tests of `test_drawing` want it."""
    runs = Runs(folder)
    # What is imported stays: the library looks through it for garbage at the end of each training.
    gc.freeze()
    runs.train("straight")
    shown: dict[str, Any] = {"signal": runs.killed("killed", at=3)}
    found = checkpoints.find_latest(folder / "killed")
    shown["found"] = found.name if found else None
    runs.train("killed", resume=True)
    shown["same weights"] = runs.weights("killed") == runs.weights("straight")

    runs.killed("ranks", at=3)
    in_ranks(2, lambda rank: runs.train("ranks", "training.batch_size=1", resume=True), folder)

    # Twice as many rows a step, from the step that the checkpoint is of.
    runs.killed("larger", at=3)
    runs.train("larger", "training.batch_size=4", resume=True)

    shown["drawn"] = {name: runs.drawn(name) for name in ("straight", "killed", "ranks", "larger")}
    provenance = json.loads((folder / "straight" / "checkpoint-6" / "provenance.json").read_text())
    shown["order"], shown["sources"] = provenance["order"], provenance["data"]["sources"]
    print(json.dumps(shown))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
