"""`bundle sbom`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.bundle_arguments import OutputFile, is_file_name
from bundler.cli.replaced import say_replaced_file
from bundler.console.options import hf_home_option
from bundler.plan.folders import default_hf_home
from bundler.remote.address import parse_place


@click.command()
@click.argument("bundle")
@click.option(
    "--format",
    "form",
    type=click.Choice(["cyclonedx", "spdx"]),
    default="cyclonedx",
    show_default=True,
    help="CycloneDX 1.6 in JSON, or SPDX 3.0.1 in JSON-LD.",
)
@click.option("-o", "--output", type=OutputFile(), help="Write it to this file. Default: stdout.")
@hf_home_option
def sbom(bundle: str, form: str, output: Path | None, hf_home: Path | None) -> None:
    """Write the bill of materials of BUNDLE, a bundle file, its address, or the name of an installed bundle.

    It has each repo with its package URL, commit, the licences and origins that its card claims, and its files with
    their hashes. Pickle files, and repos whose Python may be run, are marked. Equal bundles have equal bills. Needs the
    package cyclonedx-python-lib; for SPDX spdx-python-model and license-expression.

    \b
    Examples:
      bundle sbom demo.tar.zst -o demo.cdx.json
      bundle sbom demo --format spdx -o demo.spdx.json
      bundle sbom demo | jq '.components[].purl'
    """
    from bundler.files.atomic import atomic_write

    if form == "spdx":
        from bundler.trust.spdx import write_spdx as write
    else:
        from bundler.trust.sbom import write_sbom as write

    if is_file_name(bundle):
        from bundler.format.find import find_bundle
        from bundler.format.reader import BundleReader

        with BundleReader(find_bundle([parse_place(bundle)])) as reader:
            text = write(reader.lock, reader.digest)
    else:
        from bundler.home.home import Home

        installed = Home(default_hf_home(hf_home)).bundle(bundle)
        text = write(installed.lock, installed.digest)
    if output is None:
        click.echo(text, nl=False)
    else:
        say_replaced_file(output)
        atomic_write(output, text.encode())
