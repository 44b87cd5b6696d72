"""Train with FSDP2 in processes of this program, and print what they saw, in JSON.

It is a program of its own since it forks: a fork of a test runner with threads may hang.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

from torch.distributed.tensor import DTensor
from transformers import Trainer

from infini_llama.model import modeling
from infini_llama.model.attention import InfiniLlamaAttention
from infini_llama.model.head_loss import can_skip_logits
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.parallel.sharded_checkpoint import export
from infini_llama.run_folder.checkpoints import SHARDS
from infini_llama.settings.sections import parse
from infini_llama.train.run import train
from tests.infini_llama.ranks import in_ranks
from tests.infini_llama.train.test_run import CONFIG

OPTIONS = (
    "tokenizer=no/such",
    "tokenizer_fallback=byte",
    "data.segments_per_row=4",
    "training.backprop_segments=2",
    "training.gradient_accumulation_steps=2",
    "training.activation_checkpointing=true",
    "training.learning_rate=1e-2",
    "training.steps=4",
    "training.checkpoint_every_steps=4",
)
# Before the resume of other runs.
HALFWAY = ("training.checkpoint_every_steps=2",)
BFLOAT16 = ("training.precision=bfloat16",)


def losses(run: Path) -> list[float]:
    """Return the loss of each step of a run of four."""
    history = json.loads((run / "checkpoint-4" / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def tokens(run: Path) -> int:
    """Return the number of tokens trained on by a run of four steps."""
    state = json.loads((run / "checkpoint-4" / "trainer_state.json").read_text())
    return int(state["num_input_tokens_seen"])


def stretches(run: Path) -> list[dict[str, float]]:
    """Return the last evaluation of a run."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    found: list[dict[str, float]] = [line["stretches"] for line in lines if line["kind"] == "evaluation"][-1]
    return found


class Runs:
    """Runs in a folder, all on the same text and with the same four rows in a batch."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._text = folder, folder / "a.txt"
        # More text than four steps read.
        self._text.write_text(" ".join(str(number) for number in range(1000)))
        held_out = folder / "held-out"
        held_out.mkdir()
        self.evaluated = (f"evaluation.raw_data={held_out}",)
        for length in (1, 3, 30, 70):
            (held_out / f"{length}.txt").write_text(" ".join(str(number) for number in range(length)))

    def train(self, name: str, *more: str, rank: int = 0, resume_from: Path | None = None) -> None:
        """Train in this process."""
        settings = parse(CONFIG, overrides=[*OPTIONS, *more])
        train(settings, None, raw_data=self._text, output_dir=self._folder / name, resume_from=resume_from)

    def alone(self, name: str, *more: str, resume_from: Path | None = None) -> list[float]:
        """Train in one process, and return the losses."""
        self.train(name, "training.batch_size=4", *more, resume_from=resume_from)
        return losses(self._folder / name)

    def sharded(self, name: str, count: int, *more: str, watch: Any = None, **options: Any) -> list[float]:
        """Train in `count` processes with FSDP2, and return the losses."""

        def work(rank: int) -> None:
            if watch is not None:
                watch(rank)
            split = (f"training.batch_size={4 // count}", "training.distributed=fsdp2")
            self.train(name, *split, *more, **options)

        in_ranks(count, work, self._folder)
        return losses(self._folder / name)


class Watch:
    """What rank 0 saw of dtypes and gradients while it trained."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: dict[str, set[str]] = {}

    def __call__(self, rank: int) -> None:
        """Begin, in a process that will train."""
        if rank == 0:
            self._watch_layers()
            self._watch_gradients()

    def _note(self, what: str, seen: object) -> None:
        self._seen.setdefault(what, set()).add(str(seen))
        self._file.write_text(json.dumps({name: sorted(values) for name, values in self._seen.items()}))

    def _watch_layers(self) -> None:
        forward = InfiniLlamaAttention.forward

        def watched(module: Any, hidden_states: Any, **kwargs: Any) -> Any:
            out = forward(module, hidden_states, **kwargs)
            self._note("gathered", module.q_proj.weight.dtype)
            self._note("memory", out[2].memory.matrix.dtype)
            return out

        def watched_head(*arguments: Any) -> bool:
            skips = can_skip_logits(*arguments)
            self._note("logits skipped", skips)
            return skips

        InfiniLlamaAttention.forward = watched  # type: ignore[method-assign]
        modeling.can_skip_logits = watched_head  # type: ignore[attr-defined]

    def _watch_gradients(self) -> None:
        step = Trainer.training_step

        def watched(trainer: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            loss = step(trainer, model, inputs, num_items_in_batch)
            for p in model.parameters():
                assert isinstance(p, DTensor)
                assert isinstance(p.grad, DTensor)
                self._note("gradients", p.grad.to_local().shape == p.to_local().shape)
                self._note("shares", p.to_local().dtype)
            return loss

        Trainer.training_step = watched  # type: ignore[method-assign]


def main(folder: Path) -> None:
    """Train as the tests of `test_sharded_runs` want it."""
    runs = Runs(folder)
    # What is imported stays: the library looks through it for garbage at the end of each training.
    gc.freeze()
    shown: dict[str, Any] = {
        "one": runs.alone("one", *runs.evaluated),
        "two": runs.sharded("two", 2, *runs.evaluated),
        "one_bfloat16": runs.alone("one-bfloat16", *BFLOAT16, *runs.evaluated),
        "two_bfloat16": runs.sharded(
            "two-bfloat16", 2, *BFLOAT16, *runs.evaluated, watch=Watch(folder / "seen.json")
        ),
        "seen": json.loads((folder / "seen.json").read_text()),
    }
    shards = ("training.checkpoint_format=shards",)
    background = ("training.checkpoint_in_background=true", *HALFWAY)
    shown["two_in_shards"] = runs.sharded("shards", 2, *shards, *background)
    half = folder / "shards" / "checkpoint-2"
    shown["shard_files"] = sorted(path.name for path in (half / SHARDS).iterdir())
    shown["files"] = sorted(path.name for path in half.iterdir())
    shown["four_from_two"] = runs.sharded("four", 4, *shards, *runs.evaluated, resume_from=half)
    shown["one_from_two"] = runs.alone("one-from-two", resume_from=half)
    shown["parameters"] = export(folder / "four" / "checkpoint-4", folder / "exported")
    one, exported = (
        InfiniLlamaForCausalLM.from_pretrained(path) for path in (folder / "one/checkpoint-4", folder / "exported")
    )
    shown["largest_difference"] = max(
        float((p - q).abs().max()) for p, q in zip(one.parameters(), exported.parameters(), strict=True)
    )
    whole_rows = ("training.backprop_segments=null", "data.share_segments=true")
    shown["one_whole_rows"] = runs.alone("whole-rows", *whole_rows)
    # Two groups of two ranks, of which each group has two of the four rows.
    spread = (*whole_rows, "training.context_parallel=2")
    shown["four_in_context"] = runs.sharded("context", 4, *spread, "training.batch_size=2")
    shown["tokens"] = [tokens(folder / name) for name in ("whole-rows", "context")]
    shown["stretches"] = {
        name: stretches(folder / name) for name in ("one", "two", "four", "one-bfloat16", "two-bfloat16")
    }
    print(json.dumps(shown))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
