"""`bundle cache`: the folder in which `bundle fetch` stages downloads."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.console.age import Age
from bundler.console.group import ErrorGroup
from bundler.console.options import json_option
from bundler.console.output import print_json
from bundler.console.paths import GivenPath
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.make.cache.staged import StagedFiles

_cache_dir_option = click.option(
    "--cache-dir",
    metavar="DIR",
    type=GivenPath(file_okay=False),
    help="The folder.  [default: $BUNDLE_CACHE, else ~/.cache/bundle]",
)
_WORDS = {
    "content": "files, checked, which a fetch only hashes",
    "unfinished": "downloads that a fetch goes on with",
    "records": "notes of what was prepared, proven and packed",
}


@click.group(cls=ErrorGroup)
def cache() -> None:
    """Show and clear the folder in which `bundle fetch` stages downloads.

    \b
    Examples:
      bundle cache list
      bundle cache prune --older-than 4w
    """


@cache.command("dir")
@_cache_dir_option
def show_folder(cache_dir: Path | None) -> None:
    """Print the folder, whether it is there or not.

    \b
    Example:
      du -sh "$(bundle cache dir)"
    """
    click.echo(_find_root(cache_dir))


@cache.command("list")
@_cache_dir_option
@json_option
def list_(cache_dir: Path | None, as_json: bool) -> None:
    """Show what is staged, and how much room it takes.

    \b
    Example:
      bundle cache list --json
    """
    from bundler.make.cache.staged import count_staged

    root = _find_root(cache_dir)
    found = count_staged(root)
    if as_json:
        print_json({"folder": str(root), **asdict(found)})
        return
    click.echo(root)
    _print_files(found)


@cache.command()
@click.option(
    "--older-than",
    type=Age(),
    default="30d",
    show_default=True,
    help="Delete what no fetch has used for this long: 12h, 30d, 4w; 0h for all.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@_cache_dir_option
@json_option
def prune(older_than: datetime.timedelta, dry_run: bool, cache_dir: Path | None, as_json: bool) -> None:
    """Delete what no fetch has used for long. A later fetch downloads it again.

    Bundles and installed content stay. With 0h, let no fetch run meanwhile.

    \b
    Example:
      bundle cache prune --older-than 4w --dry-run
    """
    from bundler.make.cache.staged import prune_staged

    root = _find_root(cache_dir)
    found = prune_staged(root, older_than.total_seconds(), dry_run=dry_run)
    if as_json:
        print_json({"folder": str(root), "dry_run": dry_run, **asdict(found)})
        return
    click.echo(f"{'would delete' if dry_run else 'deleted'} in {root}")
    _print_files(found)


def _find_root(cache_dir: Path | None) -> Path:
    from bundler.make.store import Store

    return Store.default_root(cache_dir)


def _print_files(found: StagedFiles) -> None:
    for name, words in _WORDS.items():
        staged = getattr(found, name)
        click.echo(f"  {name:<10}  {counted(staged.files, 'file'):>12}  {size(staged.size_bytes):>9}  {words}")
