"""`bundle prune`."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from bundler.console.age import Age
from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json, say
from bundler.plan.folders import default_hf_home
from bundler.text.wording import counted, size


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
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@hf_home_option
@json_option
def prune(
    names: tuple[str, ...],
    keep: int,
    older_than: datetime.timedelta | None,
    dry_run: bool,
    hf_home: Path | None,
    as_json: bool,
) -> None:
    """Delete generations of bundles that are not the current ones, and the content that only they need.

    What a `bundle run` or a program with `enforce_offline` goes on with stays, on this machine and on others that share
    the file system. Without NAME looks at all bundles.

    \b
    Examples:
      bundle prune --dry-run
      bundle prune demo --keep 1 --older-than 30d
    """
    from bundler.home.generations.prune import prune as prune_home

    result = prune_home(
        default_hf_home(hf_home),
        names,
        keep=keep,
        older_than=older_than,
        dry_run=dry_run,
        on_note=lambda text: say(f"note: {text}"),
    )
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
