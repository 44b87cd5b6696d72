"""`bundle list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json, say
from bundler.errors import BundleError
from bundler.plan.layout import default_hf_home
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.home.installed import InstalledBundle


@click.command("list")
@hf_home_option
@json_option
@click.pass_context
def list_(ctx: click.Context, hf_home: Path | None, as_json: bool) -> None:
    """List the bundles that are installed in HF_HOME.

    A receipt that was changed is reported on stderr, and makes the exit code 6.

    \b
    Example:
      bundle list --json
    """
    from bundler.home.common.journal import list_unfinished
    from bundler.home.home import Home

    home = default_hf_home(hf_home)
    damaged: list[BundleError] = []
    bundles = Home(home).bundles(on_damage=damaged.append)
    unfinished = list_unfinished(home)
    if as_json:
        print_json(
            {
                "hf_home": str(home),
                "bundles": [_bundle_json(bundle) for bundle in bundles],
                "damaged": [error.message for error in damaged],
                "unfinished": unfinished,
            }
        )
    else:
        for bundle in bundles:
            _print_bundle(bundle)
        if not bundles and not damaged:
            say(f"no bundle is installed in {home}")
    for name in unfinished:
        say(f"note: an installation of {name} did not end; install it again, or `bundle remove {name}`")
    for error in damaged:
        say(f"error: {error}")
    ctx.exit(6 if damaged else 0)


def _bundle_json(bundle: InstalledBundle) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "digest": bundle.digest,
        "repos": [repo.repo_id for repo in bundle.lock.repos],
        "left_out": list(bundle.left_out),
        "files": len(bundle.layout.blobs),
        "size_bytes": sum(blob.size_bytes for blob in bundle.layout.blobs),
    }


def _print_bundle(bundle: InstalledBundle) -> None:
    blobs = bundle.layout.blobs
    total = sum(blob.size_bytes for blob in blobs)
    click.echo(f"{bundle.name}  {bundle.digest[:19]}  {counted(len(blobs), 'file')}, {size(total)}")
    for repo in bundle.lock.repos:
        also = f"  also as {', '.join(repo.aliases)}" if repo.aliases else ""
        click.echo(f"  {repo.kind:9}  {repo.repo_id}  {repo.revision} = {repo.commit[:12]}{also}")
    if bundle.left_out:
        click.echo(f"  left out   {', '.join(bundle.left_out)}")
