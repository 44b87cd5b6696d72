"""The part of `infini-llama recall` that asks a checkpoint for passkeys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from infini_llama.cli import checkpoint as folder

_DEPTHS = {"start": 0.0, "middle": 0.5, "end": 1.0}


def ask_for_passkeys(
    checkpoint: Path, lengths: tuple[int, ...], prompts: int, threads: int, as_json: bool
) -> list[dict[str, Any]]:
    """Print a line for each length, with the share of right answers for each place of the passkey; return the records.

    A record is what `--json` prints (docs/reference/json.md).
    """
    model, tokenizer = folder.load(checkpoint)
    import torch

    from infini_llama.tasks.passkey import PasskeyTask, passkey_accuracy

    torch.set_num_threads(threads)
    task = PasskeyTask(tokenizer=tokenizer)
    records = []
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
        record = {"checkpoint": str(checkpoint), "segments": length, "tokens": tokens, "prompts": prompts}
        records.append({**record, "accuracy": dict(zip(_DEPTHS, found, strict=True))})
        if as_json:
            click.echo(json.dumps(records[-1]))
        else:
            click.echo(f"{length:>8}{tokens:>12,}" + "".join(f"{share:>8.2f}" for share in found))
    return records
