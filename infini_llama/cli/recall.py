"""`infini-llama recall`: test the memory, by the recall task for small models or by passkeys for a checkpoint."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from bundler.console.paths import GivenPath
from bundler.offline.enforce import enforce_offline
from infini_llama.cli.numbers import SEED, RealRange
from infini_llama.cli.passkeys import ask_for_passkeys
from infini_llama.progress import say
from infini_llama.report.report import write_report
from infini_llama.run_folder.metrics import FILE, read_metrics
from infini_llama.run_folder.recalled import PASSKEYS, RECALL, write_recalled

_STEPS_SHOWN = 200
# Variants whose memory can learn, with any seed.
_LEARNING = ("linear", "delta")
_TRAINED_ON = 3
# Name -> (memory update, whether gates are shut, whether the gradient is cut between segments)
_VARIANTS = {
    "linear": ("linear", False, False),
    "delta": ("delta", False, False),
    "gates-shut": ("linear", True, False),
    "detached": ("linear", False, True),
}


@click.command("recall")
@click.argument(
    "checkpoint",
    required=False,
    type=GivenPath(exists=True, file_okay=False),
    metavar="[CHECKPOINT]",
)
@click.option(
    "--segments",
    "lengths",
    type=click.IntRange(1),
    multiple=True,
    default=(2, 4, 8, 16, 32),
    show_default=True,
    help="Length of the text in segments; repeat for several.",
)
@click.option(
    "--variant",
    "variants",
    type=click.Choice(list(_VARIANTS)),
    multiple=True,
    default=tuple(_VARIANTS),
    show_default=True,
    help="Small models to train: two with a memory, and two whose memory is shut or does not learn.",
)
@click.option("--seed", "seeds", type=SEED, multiple=True, default=(0, 1, 2), show_default=True)
@click.option(
    "--steps", type=click.IntRange(1), default=800, show_default=True, help="Training steps of 64 rows each."
)
@click.option(
    "--spread",
    type=RealRange(0, 16),
    default=0.0,
    show_default=True,
    help="Train with this memory_write_spread, which grows over the first half of the steps; 5 for thousands of "
    "segments.",
)
@click.option(
    "--rows", type=click.IntRange(1), default=256, show_default=True, help="Rows per result, four questions each."
)
@click.option(
    "--prompts", type=click.IntRange(1), default=10, show_default=True, help="Prompts per result, with CHECKPOINT."
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="More do not help such a small model."
)
@click.option(
    "--report",
    "run",
    type=GivenPath(exists=True, file_okay=False),
    metavar="RUN",
    help="Folder of a run, whose report.html is written again, with a picture of these results.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per line of the table.")
def command(
    checkpoint: Path | None,
    lengths: tuple[int, ...],
    variants: tuple[str, ...],
    seeds: tuple[int, ...],
    steps: int,
    spread: float,
    rows: int,
    prompts: int,
    threads: int,
    run: Path | None,
    as_json: bool,
) -> None:
    """Ask for something that was read many segments before, and print how many answers are right.

    Without CHECKPOINT, small models are trained on rows of three segments: the first hides four bindings of a key to
    one of 16 values, the last asks for them; a guess is right in 1 of 16 cases. Training takes a minute or two per
    model on one core, and needs no data and no bundle. Variants whose memory cannot learn run with the first seed only.

    With CHECKPOINT, that model is asked for a passkey of five digits, hidden at the start, in the middle or at the end
    of a text of that length.

    \b
    Example:
      infini-llama recall --variant delta --seed 0 --segments 2 --segments 8
      infini-llama recall run/checkpoint-120 --segments 4 --segments 64
    """
    if run is not None and not read_metrics(run):
        raise click.UsageError(f"--report: expected the folder of a run, found no line of {FILE} in {run}")
    if checkpoint is not None:
        found = ask_for_passkeys(checkpoint, lengths, prompts, threads, as_json)
        _report(run, PASSKEYS, found)
        return
    if min(lengths) < 2:
        raise click.UsageError("bindings and questions take a segment each: --segments must be at least 2")
    enforce_offline(quick=True)
    import torch

    torch.set_num_threads(threads)
    if not as_json:
        click.echo("variant     seed  " + "".join(f"{length:>7}" for length in lengths))
    records = []
    trained = [(name, seed) for name in variants for seed in (seeds if name in _LEARNING else seeds[:1])]
    for variant, seed in trained:
        record = _train_and_ask(variant, seed, steps, spread, lengths, rows)
        records.append(record)
        shares = "".join(f"{record['accuracy'][str(length)]:>7.3f}" for length in lengths)
        click.echo(json.dumps(record) if as_json else f"{variant:<10}  {seed:>4}  {shares}")
    _report(run, RECALL, records)


def _report(run: Path | None, file: str, records: list[dict[str, Any]]) -> None:
    """Put records on the page of a run, if there is one to put them on."""
    if run is not None:
        write_recalled(run, file, records)
        say(f"report {write_report(run)}")


def _train_and_ask(
    variant: str, seed: int, steps: int, spread: float, lengths: tuple[int, ...], rows: int
) -> dict[str, Any]:
    """Train a small model, and return the record of what it answers, as docs/reference/json.md has it."""
    from infini_llama.tasks.recall import (
        RecallTask,
        recall_accuracies,
        recall_model,
        shut_gates,
        train_recall,
    )

    begun = time.monotonic()
    memory_update, gates_shut, detached = _VARIANTS[variant]
    task = RecallTask()
    model = recall_model(task, memory_update=memory_update, seed=seed, spread=spread)
    if gates_shut:
        shut_gates(model)

    def show(step: int, loss: float) -> None:
        if step % _STEPS_SHOWN == 0 or step == steps:
            say(f"{variant}, seed {seed}: step {step}/{steps}  loss {loss:.4f}")

    train_recall(model, task, steps=steps, segments=_TRAINED_ON, seed=seed, detached=detached, on_step=show)
    right = recall_accuracies(model, task, lengths=lengths, rows=rows)
    return {
        "variant": variant,
        "seed": seed,
        "steps": steps,
        "trained_on_segments": _TRAINED_ON,
        "spread": spread,
        "rows": rows,
        "chance": 1 / task.values,
        "accuracy": dict(zip(map(str, lengths), right, strict=True)),
        "seconds": round(time.monotonic() - begun, 1),
    }
