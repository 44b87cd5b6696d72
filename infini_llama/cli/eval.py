"""`infini-llama eval`: measure perplexity on text that the model was not trained on."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

import click

from infini_llama.cli import checkpoint as checkpoints
from infini_llama.cli.raw_data import raw_data_option
from infini_llama.settings.sections import DataSettings


@click.command("eval")
@checkpoints.checkpoint_argument
@raw_data_option()
@click.option("--text-key", default="text", show_default=True, help="Key or column that holds the text.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def command(checkpoint: Path, raw_data: str, text_key: str, as_json: bool) -> None:
    """Print perplexities with and without the memory, by segment of the document.

    "Without" is the same model with its gates shut: only local attention.

    \b
    Example:
      infini-llama eval run/checkpoint-120 --raw-data held-out/
    """
    model, tokenizer = checkpoints.load(checkpoint)
    from infini_llama.data import prepare_documents
    from infini_llama.train.perplexity import perplexities

    settings = DataSettings(
        segments_per_row=1, end_of_document=tokenizer.eos_token_id is not None, text_key=text_key
    )
    with tempfile.TemporaryDirectory() as folder:
        data = prepare_documents(raw_data, tokenizer, settings, Path(folder))
        stretches = perplexities(model, data.documents)
    if as_json:
        record = {
            "checkpoint": str(checkpoint),
            "data_sha256": data.sha256,
            "documents": len(data.documents),
            "segment_length": model.config.segment_length,
            "stretches": [dataclasses.asdict(stretch) for stretch in stretches],
        }
        click.echo(json.dumps(record))
        return
    click.echo(f"{'segments':>12}{'tokens':>12}{'with memory':>14}{'without':>12}")
    for stretch in stretches:
        span = str(stretch.first) if stretch.first == stretch.last else f"{stretch.first}-{stretch.last}"
        label = "all" if stretch is stretches[-1] else span
        click.echo(f"{label:>12}{stretch.tokens:>12,}{stretch.with_memory:>14.2f}{stretch.without_memory:>12.2f}")
