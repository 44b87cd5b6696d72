"""`infini-llama eval`: perplexity on text that the model was not trained on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from infini_llama.cli import checkpoint as folder


@click.command("eval")
@folder.checkpoint_argument
@click.option(
    "--raw-data", required=True, type=click.Path(exists=True, path_type=Path), help="As for `infini-llama train`."
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def command(checkpoint: Path, raw_data: Path, as_json: bool) -> None:
    """Print perplexities with and without the memory, by segment of the document.

    "Without" is the same model with its gates shut: local attention alone.

    \b
    Example:
      infini-llama eval run/checkpoint-120 --raw-data held-out/
    """
    model, tokenizer = folder.load(checkpoint)
    from infini_llama.data import read_corpus, tokenize
    from infini_llama.evaluate import perplexities

    corpus = read_corpus(raw_data)
    documents = tokenize(corpus.texts, tokenizer, end_of_document=tokenizer.eos_token_id is not None)
    stretches = perplexities(model, documents)
    if as_json:
        record = {
            "checkpoint": str(checkpoint),
            "data_sha256": corpus.sha256,
            "documents": len(documents),
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
