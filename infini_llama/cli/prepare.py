"""`infini-llama prepare`: tokenize the text of a run, so that `infini-llama train` can begin at once."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import click

from bundler.console.paths import GivenPath
from bundler.text.wording import counted
from infini_llama.cli.raw_data import check_sources, raw_data_option
from infini_llama.cli.tokenizer_source import (
    check_tokenizer_source,
    prepare_network,
    tokenizer_source_options,
)
from infini_llama.settings.sections import TOKENS_FOLDER, load


@click.command("prepare")
@tokenizer_source_options
@click.option(
    "--config",
    "config_path",
    required=True,
    type=GivenPath(exists=True, dir_okay=False),
    help="The configuration for the training.",
)
@raw_data_option(required=False)
@click.option(
    "--output-dir",
    type=GivenPath(file_okay=False),
    help="The --output-dir for the training; not needed with data.cache_dir.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key: data.text_key=body.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    bundle: str | None,
    offline_mode: bool,
    online: bool,
    config_path: Path,
    raw_data: str | None,
    output_dir: Path | None,
    hf_home: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Tokenize raw data to the place where `infini-llama train` looks for it, and report what it holds.

    \b
    Example:
      infini-llama prepare --bundle demo --config demo/train.yaml --raw-data corpus/ --output-dir run
    """
    check_tokenizer_source(bundle, offline_mode=offline_mode, online=online)
    resolved = load(config_path, overrides)
    check_sources(raw_data, resolved)
    if output_dir is None and resolved.data.cache_dir is None:
        raise click.UsageError("say where the tokens go: --output-dir of the training, or data.cache_dir")
    installed = prepare_network(bundle, hf_home, online=online)
    with contextlib.redirect_stdout(sys.stderr):
        from infini_llama.data import prepare_sources
        from infini_llama.data.tokenizers import choose_tokenizer

        chosen = choose_tokenizer(
            resolved.tokenizer, bundle=installed, fallback=resolved.tokenizer_fallback, online=online
        )
        place = (output_dir or Path()) / TOKENS_FOLDER
        data = prepare_sources(raw_data, chosen.tokenizer, resolved.data, place)
    if as_json:
        click.echo(json.dumps(data.record(with_places=True)))
        return
    for part, share in zip(data.parts, data.shares, strict=True):
        click.echo(
            f"data         {part.source}, {counted(part.files, 'file')}, {counted(part.size_bytes, 'byte')}"
        )
        if len(data.parts) > 1:
            click.echo(f"share        {share:.1%} of the rows")
        click.echo(f"documents    {len(part.documents):,}")
        click.echo(f"tokens       {part.documents.tokens:,}")
        click.echo(f"bad records  {part.bad_records:,}{' left out' if part.bad_records else ''}")
        if part.left_out:
            click.echo(f"not read     {counted(len(part.left_out), 'file')}, named above")
        click.echo(f"kept in      {part.place}{', from an earlier run' if part.from_cache else ''}")
