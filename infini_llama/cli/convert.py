"""`infini-llama convert`: convert a Llama of a verified bundle to an Infini-Llama."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

import click

from bundler.console.paths import GivenPath
from bundler.offline.enforce import enforce_offline
from infini_llama.cli.numbers import RealRange


@click.command("convert")
@click.option(
    "--bundle", required=True, metavar="NAME", help="Installed bundle that holds the model; verified first."
)
@click.option("--model", "repo_id", required=True, metavar="REPO", help="Repo id or alias of a Llama in it.")
@click.option("--segment-length", required=True, type=click.IntRange(1), help="Tokens that local attention sees.")
@click.option("--memory-update", type=click.Choice(["linear", "delta"]), default="linear", show_default=True)
@click.option(
    "--gate-init", type=RealRange(-20, 20), default=0.0, show_default=True, help="Logit; 0 is half open."
)
@click.option(
    "--output-dir",
    required=True,
    type=GivenPath(),
    help="A new folder for the model, its tokenizer and its provenance.",
)
@click.option("--hf-home", type=GivenPath(file_okay=False), help="Where the bundle is installed.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    bundle: str,
    repo_id: str,
    segment_length: int,
    memory_update: str,
    gate_init: float,
    output_dir: Path,
    hf_home: Path | None,
    as_json: bool,
) -> None:
    """Convert a Llama checkpoint to an Infini-Llama: the same weights, and new gates.

    Within one segment both give the same logits, which is checked before anything is written.

    \b
    Example:
      infini-llama convert --bundle demo --model org/llama --segment-length 2048 --output-dir start
    """
    (installed,) = enforce_offline(bundle, hf_home=hf_home)
    snapshot = installed.snapshot_path(repo_id)
    with contextlib.redirect_stdout(sys.stderr):
        from infini_llama.model.convert import convert

        done = convert(
            snapshot,
            output_dir,
            segment_length=segment_length,
            memory_update=memory_update,  # type: ignore[arg-type]
            gate_init=gate_init,
            origin={"bundle": bundle, "bundle_digest": installed.digest, "repo": repo_id, "commit": snapshot.name},
        )
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(done), "output_dir": str(output_dir)}))
        return
    click.echo(f"model        {output_dir}")
    click.echo(f"parameters   {done.parameters:,} taken over, {done.gates} new (gates)")
    click.echo(f"first segment's logits differ from the Llama's by at most {done.largest_difference:.1e}")
