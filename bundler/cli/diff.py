"""`bundle diff`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.bundle_arguments import is_file_name
from bundler.console.options import hf_home_option, json_option
from bundler.console.output import print_json
from bundler.errors import DIFFERS
from bundler.plan.folders import default_hf_home
from bundler.remote.address import parse_place
from bundler.text.wording import counted, size

if TYPE_CHECKING:
    from bundler.home.lock_source import LockSource
    from bundler.plan.lock_diff import FileDiff, LockDiff, RepoDiff

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--exit-code", is_flag=True, help=f"End with {DIFFERS} if anything differs, with 0 if nothing does.")
@hf_home_option
@json_option
@click.pass_context
def diff(ctx: click.Context, a: str, b: str, exit_code: bool, hf_home: Path | None, as_json: bool) -> None:
    """Show what differs between A and B: repos, commits, files and bytes.

    Each is a bundle file, its address or volumes, a lock (.lock), a receipt (.json), or what is installed: NAME, or
    NAME@DIGEST for an older generation. Only locks are read, whatever the size. Licences are those that the cards
    claim, where both locks record them.

    \b
    Examples:
      bundle diff demo demo.delta.tar.zst
      bundle diff demo@4f0c demo --json
      bundle diff old.lock new.lock --exit-code
    """
    from bundler.plan.lock_diff import compare_locks

    home = default_hf_home(hf_home)
    before, after = _open(a, home), _open(b, home)
    found = compare_locks(before.lock, after.lock)
    if as_json:
        print_json(_diff_json(before, after, found))
    else:
        _print_diff(before, after, found)
    ctx.exit(DIFFERS if exit_code and not found.is_empty else 0)


def _open(text: str, home: Path) -> LockSource:
    from bundler.home.lock_source import open_file, open_generation

    if text.endswith((".lock", ".json")) or is_file_name(text):
        return open_file(parse_place(text))
    return open_generation(text, home)


def _print_diff(before: LockSource, after: LockSource, found: LockDiff) -> None:
    for sign, side in (("-", before), ("+", after)):
        click.echo(f"{sign} {side.lock.name} {side.digest or '(a lock)'}  {side.label}")
    for repo in found.repos:
        click.echo(_line(repo))
        if "licenses" in repo.settings:
            click.echo(f"  licences: {_named(repo.before_licenses)} → {_named(repo.after_licenses)}")
        for file in repo.files:
            click.echo(_file_line(file))
    if found.is_empty:
        click.echo("no difference")
    click.echo(
        f"only in the second: {counted(found.new_files, 'content')}, {size(found.new_bytes)}; only in the first: "
        f"{counted(found.gone_files, 'content')}, {size(found.gone_bytes)}; in both: "
        f"{counted(found.shared_files, 'content')}, {size(found.shared_bytes)}"
    )
    if any(
        None in (repo.before_licenses, repo.after_licenses) for repo in found.repos if repo.status == "changed"
    ):
        click.echo("licences: not compared where a lock does not record what the cards claim")


def _line(repo: RepoDiff) -> str:
    commits = [commit[:12] for commit in (repo.before_commit, repo.after_commit) if commit]
    arrow = " → ".join(dict.fromkeys(commits))
    more = f", {', '.join(repo.settings)} differ" if repo.settings else ""
    return f"{repo.status:9}  {repo.kind} {repo.repo_id} {repo.revision}: {arrow}{more}"


def _named(licenses: tuple[str, ...] | None) -> str:
    return ", ".join(licenses or ()) or "none claimed"


def _file_line(file: FileDiff) -> str:
    sizes = [size(count) for count in (file.before_bytes, file.after_bytes) if count is not None]
    prepared = "prepared dataset: " if file.is_prepared else ""
    return f"  {_SIGNS[file.status]} {prepared}{file.path}  {' → '.join(sizes)}"


def _diff_json(before: LockSource, after: LockSource, found: LockDiff) -> dict[str, Any]:
    sides = {
        name: {
            "label": side.label,
            "name": side.lock.name,
            "digest": side.digest,
            "bundle_bytes": side.bundle_bytes,
            "content_bytes": sum(repo.size_bytes for repo in side.lock.repos),
        }
        for name, side in (("before", before), ("after", after))
    }
    return {**sides, "equal": found.is_empty, **asdict(found)}
