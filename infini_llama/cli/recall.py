"""`infini-llama recall`: the synthetic task of `infini_llama.recall` as a table, a line per seed."""

from __future__ import annotations

import json
import time

import click

from bundler.offline.enforce import enforce_offline
from infini_llama.progress import say

_STEPS_SHOWN = 200


@click.command("recall")
@click.option("--memory-update", type=click.Choice(["linear", "delta"]), default="linear", show_default=True)
@click.option("--seed", "seeds", type=click.IntRange(0), multiple=True, default=(0, 1, 2), show_default=True)
@click.option("--steps", type=click.IntRange(1), default=1600, show_default=True, help="Of 64 rows each.")
@click.option("--trained-on", type=click.IntRange(2), default=3, show_default=True, help="Segments of a row.")
@click.option(
    "--segments",
    "lengths",
    type=click.IntRange(2),
    multiple=True,
    default=(2, 4, 8, 16, 32),
    show_default=True,
    help="Segments to ask over; repeat for several.",
)
@click.option("--gates-shut", is_flag=True, help="Local attention alone, for comparison: chance.")
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="So small a model gains by one."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per seed.")
def command(
    memory_update: str,
    seeds: tuple[int, ...],
    steps: int,
    trained_on: int,
    lengths: tuple[int, ...],
    gates_shut: bool,
    threads: int,
    as_json: bool,
) -> None:
    """Train small models on a task that only the memory can solve, and print how many answers are right.

    The first segment hides four bindings of a key to one of 16 values, the last asks for them; a guess is right once in
    16. A seed takes a minute or two on one core. No data and no bundle are needed.

    \b
    Example:
      infini-llama recall --memory-update delta --seed 0 --segments 2 --segments 8
    """
    enforce_offline(quick=True)
    import torch

    from infini_llama.recall import RecallTask, recall_accuracy, recall_model, shut_gates, train_recall

    torch.set_num_threads(threads)
    task = RecallTask()
    if not as_json:
        click.echo("update  seed  " + "".join(f"{length:>7}" for length in lengths))
    for seed in seeds:
        begun = time.monotonic()
        model = recall_model(task, memory_update=memory_update, seed=seed)
        if gates_shut:
            shut_gates(model)

        def show(step: int, loss: float, seed: int = seed) -> None:
            if step % _STEPS_SHOWN == 0 or step == steps:
                say(f"seed {seed}: step {step}/{steps}  loss {loss:.4f}")

        train_recall(model, task, steps=steps, segments=trained_on, seed=seed, on_step=show)
        right = {length: recall_accuracy(model, task, segments=length) for length in lengths}
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "memory_update": memory_update,
                        "gates_shut": gates_shut,
                        "seed": seed,
                        "steps": steps,
                        "trained_on_segments": trained_on,
                        "accuracy": right,
                        "chance": 1 / task.values,
                        "seconds": round(time.monotonic() - begun, 1),
                    }
                )
            )
        else:
            click.echo(f"{memory_update:<6}  {seed:>4}  " + "".join(f"{share:>7.3f}" for share in right.values()))
