"""`infini-llama recall`: test the memory, by the recall task for small models or by passkeys for a checkpoint."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from bundler.console.paths import GivenPath
from bundler.offline.enforce import enforce_offline
from infini_llama.cli import checkpoint as folder
from infini_llama.progress import say

_STEPS_SHOWN = 200
_TRAINED_ON = 3
# Name -> (memory update, whether gates are shut, whether the gradient is cut between segments)
_VARIANTS = {
    "linear": ("linear", False, False),
    "delta": ("delta", False, False),
    "gates-shut": ("linear", True, False),
    "detached": ("linear", False, True),
}
_DEPTHS = {"start": 0.0, "middle": 0.5, "end": 1.0}


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
@click.option("--seed", "seeds", type=click.IntRange(0), multiple=True, default=(0, 1, 2), show_default=True)
@click.option(
    "--steps", type=click.IntRange(1), default=800, show_default=True, help="Training steps of 64 rows each."
)
@click.option(
    "--spread",
    type=click.FloatRange(0, 16),
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
    if checkpoint is not None:
        _ask_for_passkeys(checkpoint, lengths, prompts, threads, as_json)
        return
    if min(lengths) < 2:
        raise click.UsageError("bindings and questions take a segment each: --segments must be at least 2")
    enforce_offline(quick=True)
    import torch

    torch.set_num_threads(threads)
    if not as_json:
        click.echo("variant     seed  " + "".join(f"{length:>7}" for length in lengths))
    for variant in variants:
        learns = variant in ("linear", "delta")
        for seed in seeds if learns else seeds[:1]:
            begun = time.monotonic()
            right = _train_and_ask(variant, seed, steps, spread, lengths, rows)
            if as_json:
                record = {"variant": variant, "seed": seed, "steps": steps, "trained_on_segments": _TRAINED_ON}
                record |= {"spread": spread, "rows": rows}
                seconds = round(time.monotonic() - begun, 1)
                click.echo(
                    json.dumps({**record, "accuracy": dict(zip(lengths, right, strict=True)), "seconds": seconds})
                )
            else:
                click.echo(f"{variant:<10}  {seed:>4}  " + "".join(f"{share:>7.3f}" for share in right))


def _train_and_ask(
    variant: str, seed: int, steps: int, spread: float, lengths: tuple[int, ...], rows: int
) -> list[float]:
    """Return the share of right answers at each length."""
    from infini_llama.tasks.recall import (
        RecallTask,
        recall_accuracies,
        recall_model,
        shut_gates,
        train_recall,
    )

    memory_update, gates_shut, detached = _VARIANTS[variant]
    task = RecallTask()
    model = recall_model(task, memory_update=memory_update, seed=seed, spread=spread)
    if gates_shut:
        shut_gates(model)

    def show(step: int, loss: float) -> None:
        if step % _STEPS_SHOWN == 0 or step == steps:
            say(f"{variant}, seed {seed}: step {step}/{steps}  loss {loss:.4f}")

    train_recall(model, task, steps=steps, segments=_TRAINED_ON, seed=seed, detached=detached, on_step=show)
    return recall_accuracies(model, task, lengths=lengths, rows=rows)


def _ask_for_passkeys(
    checkpoint: Path, lengths: tuple[int, ...], prompts: int, threads: int, as_json: bool
) -> None:
    """Print a line for each length, with the share of right answers for each place of the passkey."""
    model, tokenizer = folder.load(checkpoint)
    import torch

    from infini_llama.tasks.passkey import PasskeyTask, passkey_accuracy

    torch.set_num_threads(threads)
    task = PasskeyTask(tokenizer=tokenizer)
    if not as_json:
        click.echo(f"{'segments':>8}{'tokens':>12}" + "".join(f"{place:>8}" for place in _DEPTHS))
    for length in lengths:
        try:
            found = [
                passkey_accuracy(model, task, segments=length, depth=depth, prompts=prompts)
                for depth in _DEPTHS.values()
            ]
        except ValueError as error:
            raise click.UsageError(f"--segments {length}: {error}") from error
        tokens = length * model.config.segment_length
        if as_json:
            record = {"checkpoint": str(checkpoint), "segments": length, "tokens": tokens, "prompts": prompts}
            click.echo(json.dumps({**record, "accuracy": dict(zip(_DEPTHS, found, strict=True))}))
        else:
            click.echo(f"{length:>8}{tokens:>12,}" + "".join(f"{share:>8.2f}" for share in found))
