"""`bundle prune`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.bundle_arguments import VolumeSize
from bundler.console.age import Age
from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json, say
from bundler.plan.folders import default_hf_home
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.home.generations.prune import PruneResult


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Generations of each bundle that stay besides the current one, the newest.",
)
@click.option("--older-than", type=Age(), help="Delete only what was installed longer ago: 12h, 30d, 4w.")
@click.option(
    "--keep-below",
    "limit_bytes",
    type=VolumeSize(),
    help="Delete also current generations, those that were launched longest ago, until all takes at most SIZE.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@hf_home_option
@json_option
def prune(
    names: tuple[str, ...],
    keep: int,
    older_than: datetime.timedelta | None,
    limit_bytes: int | None,
    dry_run: bool,
    hf_home: Path | None,
    as_json: bool,
) -> None:
    """Delete generations of bundles that are not the current ones, and the content that only they need.

    What a `bundle run` or a program with `enforce_offline` goes on with stays, on this machine and on others that share
    the file system. Without NAME looks at all bundles. With --keep-below current generations go too, as on a node's own
    disk, where what a job needs is installed again.

    \b
    Examples:
      bundle prune --dry-run
      bundle prune demo --keep 1 --older-than 30d
      bundle prune --keep-below 400G --hf-home /local/hf
    """
    target = default_hf_home(hf_home)
    if limit_bytes is not None:
        if names or keep or older_than:
            raise click.UsageError(
                "--keep-below looks at all that is installed: no NAME, --keep or --older-than with it"
            )
        result = _keep_below(target, limit_bytes, dry_run=dry_run)
    else:
        from bundler.home.generations.prune import prune as prune_home

        result = prune_home(target, names, keep=keep, older_than=older_than, dry_run=dry_run, on_note=_say_note)
    deleted = "would delete" if dry_run else "deleted"
    for one in result.pruned:
        say(f"{deleted} {one.bundle.name} {one.bundle.digest[:19]}: {size(one.freed_bytes)}")
    for bundle, launch in result.running:
        say(f"note: {bundle.name} {bundle.digest[:19]} stays while {launch} reads it")
    say(f"{deleted} {counted(len(result.pruned), 'generation')}, {size(result.freed_bytes)}")
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "pruned": [
                    {"name": one.bundle.name, "digest": one.bundle.digest, "freed_bytes": one.freed_bytes}
                    for one in result.pruned
                ],
                "running": [
                    {"name": bundle.name, "digest": bundle.digest, "launch": str(launch)}
                    for bundle, launch in result.running
                ],
                "freed_bytes": result.freed_bytes,
            }
        )


def _keep_below(hf_home: Path, limit_bytes: int, *, dry_run: bool) -> PruneResult:
    from bundler.home.provision.make_room import keep_below

    return keep_below(hf_home, limit_bytes, dry_run=dry_run, on_note=_say_note)


def _say_note(text: str) -> None:
    say(f"note: {text}")
