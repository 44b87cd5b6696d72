"""`bundle digest`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.bundle_arguments import is_file_name
from bundler.console.options import hf_home_option
from bundler.plan.folders import default_hf_home
from bundler.remote.address import parse_place


@click.command()
@click.argument("bundle")
@click.option(
    "--installed", is_flag=True, help="Of a delta, the digest that an installation has: that of the whole bundle."
)
@hf_home_option
def digest(bundle: str, installed: bool, hf_home: Path | None) -> None:
    """Print the digest of BUNDLE: a bundle file, its address, one of its volumes, or the name of an installed bundle.

    Equal digests mean equal bundles, byte by byte. The content is not read: a digest says what a bundle must be, and
    `bundle verify` whether it is.

    \b
    Examples:
      bundle digest demo.tar.zst
      bundle digest demo --hf-home /scratch/hf
      bundle digest demo.delta.tar.zst --installed
    """
    if not is_file_name(bundle):
        from bundler.home.home import Home

        click.echo(Home(default_hf_home(hf_home)).bundle(bundle).digest)
        return
    from bundler.format.find import read_digest, read_whole_digest

    place = parse_place(bundle)
    click.echo(read_whole_digest(place) if installed else read_digest(place))
