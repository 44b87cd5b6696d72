"""`bundle lock`: resolve a manifest and write its lock beside it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from bundler.cli.bundle_arguments import OutputFile
from bundler.cli.observer import ConsoleObserver
from bundler.console.options import json_option
from bundler.console.output import print_json, say
from bundler.console.paths import GivenPath
from bundler.make.lock import Locked, LockMismatchError, LockMode, RepoChange, check_lock, lock_manifest
from bundler.plan.lockfile import lock_path
from bundler.text.wording import counted, size


@click.command(
    epilog="""
    \b
    Examples:
      bundle lock manifests/demo.yaml
      bundle lock manifests/demo.yaml --upgrade
      bundle lock manifests/demo.yaml --check && echo the lock is up to date
    """
)
@click.argument("manifest_path", metavar="MANIFEST", type=GivenPath())
@click.option(
    "-o",
    "--output",
    metavar="LOCK",
    type=OutputFile(),
    help="Where to write the lock.  [default: MANIFEST with the suffix .lock]",
)
@click.option("--upgrade", is_flag=True, help="Take the newest commits instead of those that the lock pins.")
@click.option(
    "--check",
    is_flag=True,
    help="Only tell whether the lock fits the manifest, without network; exit with 3 if it does not.",
)
@json_option
@click.pass_context
def lock(
    ctx: click.Context, manifest_path: Path, output: Path | None, upgrade: bool, check: bool, as_json: bool
) -> None:
    """Resolve every entry of MANIFEST to a commit and its files, and write the lock.

    An entry that is in the lock already keeps its commit; --upgrade moves it to what its revision is now.
    The network is used to list files; nothing is downloaded but a few small configuration files. --check compares
    the lock with MANIFEST alone: whether sizes and hashes are those of the Hub is found by `bundle fetch`.
    """
    if upgrade and check:
        raise click.UsageError("--check writes nothing and asks nobody, so it cannot --upgrade")
    path = output or lock_path(manifest_path)
    if check:
        _check(ctx, manifest_path, path, as_json=as_json)
        return
    with ConsoleObserver() as observer:
        mode: LockMode = "upgrade" if upgrade else "reuse"
        locked = lock_manifest(manifest_path, path=path, mode=mode, observer=observer)
    locked.write()
    _report(locked, as_json=as_json)


def _check(ctx: click.Context, manifest_path: Path, path: Path, *, as_json: bool) -> None:
    try:
        check_lock(manifest_path, path=path)
    except LockMismatchError as error:
        if not as_json:
            raise
        # The report stands in the place of the error's JSON: one document on stdout.
        print_json({"lock": str(path), "matches": False, "differences": list(error.differences)})
        say(f"error: {error}")
        ctx.exit(error.exit_code)
    if as_json:
        print_json({"lock": str(path), "matches": True, "differences": []})
    say(f"{path} fits {manifest_path}")


def _report(locked: Locked, *, as_json: bool) -> None:
    changes = locked.changes()
    if as_json:
        repos = locked.lock.repos
        print_json(
            {
                "lock": str(locked.path),
                "name": locked.lock.name,
                "written": locked.is_new,
                "files": sum(len(repo.files) for repo in repos),
                "size_bytes": sum(repo.size_bytes for repo in repos),
                "repos": [asdict(change) for change in changes],
                "warnings": list(locked.warnings),
            }
        )
    for change in changes:
        say(_line(change))
    say(f"{locked.path}: {'written' if locked.is_new else 'up to date'}")


def _line(change: RepoChange) -> str:
    what = f"  {change.status:<9} {change.kind} {change.repo_id} {change.revision}"
    if change.commit is None:
        return what
    commits = change.commit[:12]
    if change.previous_commit not in (None, change.commit):
        commits = f"{str(change.previous_commit)[:12]} → {commits}"
    return f"{what}: {commits}, {counted(change.files, 'file')}, {size(change.size_bytes)}"
