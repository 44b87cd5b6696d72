"""Whether a small byte-level model finds a passkey in a million bytes, trained on rows of five thousand, on a CPU.

    python -m benchmarks.train.passkey.run [--write] [--report-only] [--variant NAME] [--seed N]

or `make bench-passkey`

The task is that of the table of passkey retrieval in arXiv 2404.07143: the depth of the passkey is varied, and rows
are far longer than those of the training. The model is new and knows nothing but such text.

What is done is not done again: a training goes on from its last state, and each figure is a line of a file as soon as
it is there. With `--write`, the table replaces the one in `infini_llama/README.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.lib.marks import Marks
from benchmarks.train.passkey import table
from benchmarks.train.passkey.asking import ask_apart
from benchmarks.train.passkey.records import Record, append_record, digest_of, read_records, select
from benchmarks.train.passkey.training import Stage, Training, small_model

README = Path(__file__).parents[3] / "infini_llama" / "README.md"
MARKS = Marks("bench-passkey")
LENGTHS = (5_120, 16_384, 131_072, 1_048_576)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = (0, 1)
KEYS = 8
_STEPS_SHOWN = 50

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "segment_length": 128,
    "memory_write_spread": 5.0,
}
VARIANTS = {"linear": {"memory_update": "linear"}, "delta": {"memory_update": "delta"}}


@dataclass(frozen=True, kw_only=True)
class Round:
    """A part of a training in which the rates rise and fall once.

    Attributes:
        stages: What is trained on.
        learning_rate: Highest of all parameters but the gates.
        gate_learning_rate: Highest of the gates.
    """

    stages: tuple[Stage, ...]
    learning_rate: float = 5e-3
    gate_learning_rate: float = 1e-2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is made.

    Attributes:
        shape: Keys of its configuration.
        rounds: Its training; each round begins where the one before ended.
    """

    shape: dict[str, Any]
    rounds: tuple[Round, ...]

    @property
    def digest(self) -> str:
        """Tells records of this recipe from those of another."""
        return digest_of(asdict(self))


# The first rows are of one segment, in which local attention learns to tell the digits by their order; keys and queries
# are those of the memory, too, which finds them in a hundred steps then. After that rows are short, and the passkey is
# in one of two places. The spread comes when answers are found, as in the recall task. A few rows of one segment stay,
# or what was learnt in them is lost.
ROUNDS = (
    Round(
        stages=(
            Stage(length=128, rows=64, steps=400, introduced=False, spread=(0.0, 0.0)),
            Stage(length=256, rows=32, steps=700, introduced=False, led=False, spread=(0.0, 0.0), local_rows=16),
            Stage(length=640, rows=16, steps=350, spread=(0.0, 1.0), local_rows=16),
            Stage(length=1280, rows=8, steps=200, local_rows=16),
            Stage(length=5120, rows=4, steps=120, local_rows=16),
        )
    ),
    *(
        Round(
            stages=(
                Stage(length=640, rows=16, steps=250, local_rows=16),
                Stage(length=1280, rows=8, steps=150, local_rows=16),
                Stage(length=5120, rows=4, steps=100, local_rows=16),
            ),
            learning_rate=rate,
            gate_learning_rate=2 * rate,
        )
        for rate in (2e-3, 1e-3)
    ),
)
RECIPES = {name: Recipe(shape=SHAPE | keys, rounds=ROUNDS) for name, keys in VARIANTS.items()}


def train(recipe: Recipe, name: str, seed: int, folder: Path) -> Record:
    """Train a model into `folder`/model; return the record of it.

    Args:
        recipe: How.
        name: What it is called.
        seed: Of weights and rows.
        folder: Where model and state are.
    """
    model, losses = small_model(recipe.shape, seed), list[float]()
    steps = sum(stage.steps for each in recipe.rounds for stage in each.stages)
    for number, each in enumerate(recipe.rounds, start=1):
        what = f"{name}, seed {seed}, round {number} of {len(recipe.rounds)}"
        Training(
            model,
            each.stages,
            folder / f"round-{number}.pt",
            seed=seed + 1000 * (number - 1),
            learning_rate=each.learning_rate,
            gate_learning_rate=each.gate_learning_rate,
        ).run(partial(_note, what, losses))
    model.save_pretrained(folder / "model")
    # A training that was cut off at its very end has no step left to say what the loss was.
    last = losses[-_STEPS_SHOWN:] or [float("nan")]
    return {
        "kind": "training",
        "variant": name,
        "seed": seed,
        "recipe": recipe.digest,
        "steps": steps,
        "loss": sum(last) / len(last),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _note(what: str, losses: list[float], step: int, loss: float) -> None:
    losses.append(loss)
    if step % _STEPS_SHOWN == 0:
        last = losses[-_STEPS_SHOWN:]
        click.echo(f"{what}: step {step}  loss of the answers {sum(last) / len(last):.4f}", err=True)


def measure(
    recipe: Recipe,
    name: str,
    seed: int,
    *,
    work: Path,
    results: Path,
    lengths: Sequence[int] = LENGTHS,
    depths: Sequence[float] = DEPTHS,
    keys: int = KEYS,
) -> None:
    """Train a model and ask it, as far as that is not done.

    Args:
        recipe: How the model is made.
        name: What it is called.
        seed: Of weights and rows.
        work: Folder in which a folder of the model is made.
        results: File of the records.
        lengths: Of the rows in bytes.
        depths: Places of the passkey.
        keys: Passkeys for each figure.
    """
    known = {"variant": name, "seed": seed, "recipe": recipe.digest}
    folder = work / f"{name}-{seed}-{recipe.digest}"
    done = select(read_records(results), **known)
    if not select(done, kind="training"):
        append_record(results, train(recipe, name, seed, folder))
    for length in lengths:
        for depth in depths:
            asked = {"kind": "asking", **known, "length": length, "depth": depth, "asked": keys}
            if select(done, **asked):
                continue
            answers = ask_apart(folder / "model", length, depth, keys)
            append_record(results, asked | asdict(answers))
            click.echo(f"{name}, seed {seed}: {length:,} bytes, depth {depth:.0%}: {answers}", err=True)


@click.command()
@click.option("--write", is_flag=True, help="Replace the table in infini_llama/README.md.")
@click.option("--report-only", is_flag=True, help="Measure nothing; make the table of what is there.")
@click.option("--variant", "variants", type=click.Choice(list(VARIANTS)), multiple=True, default=tuple(VARIANTS))
@click.option("--seed", "seeds", type=click.Choice(SEEDS), multiple=True, default=SEEDS)
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("benchmarks/work/passkey"),
    show_default=True,
    help="Where models, states and records are kept; delete it to measure again.",
)
def main(write: bool, report_only: bool, variants: tuple[str, ...], seeds: tuple[int, ...], work: Path) -> None:
    """Train and ask what is not there yet, and print or write the table."""
    torch.set_num_threads(1)
    work = work.absolute()
    results = work / "passkey.jsonl"
    if not report_only:
        for seed in seeds:
            for name in variants:
                measure(RECIPES[name], name, seed, work=work, results=results)
    found = [each for name in VARIANTS for each in select(read_records(results), recipe=RECIPES[name].digest)]
    text = table.markdown(found, tuple(VARIANTS), SEEDS, LENGTHS, DEPTHS, KEYS)
    click.echo(text)
    if write:
        MARKS.write(README, text)


if __name__ == "__main__":
    main()
