"""`bundle lock`: resolve a manifest and write its lock beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from bundler.cli.bundle_arguments import OutputFile
from bundler.console.options import json_option
from bundler.console.output import print_json, say
from bundler.console.paths import GivenPath
from bundler.errors import LockError
from bundler.files.paths import atomic_write
from bundler.hub.connection.endpoint import check_endpoint
from bundler.plan.lock import Lock, LockedRepo
from bundler.plan.lockfile import differences, is_current, lock_path, read_lock
from bundler.plan.manifest import Manifest
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
def lock(manifest_path: Path, output: Path | None, upgrade: bool, check: bool, as_json: bool) -> None:
    """Resolve every entry of MANIFEST to a commit and its files, and write the lock.

    An entry that is in the lock already keeps its commit; --upgrade moves it to what its revision is now.
    The network is used to list files; nothing is downloaded but a few small configuration files. --check compares
    the lock with MANIFEST alone: whether sizes and hashes are those of the Hub is found by `bundle fetch`.
    """
    if upgrade and check:
        raise click.UsageError("--check writes nothing and asks nobody, so it cannot --upgrade")
    manifest = Manifest.load(manifest_path)
    path = output or lock_path(manifest_path)
    # Not Path.resolve, which ends in a RuntimeError where a link leads to itself.
    if os.path.realpath(path) == os.path.realpath(manifest_path):
        raise click.UsageError(f"the lock would be written over the manifest {manifest_path}; give another -o")
    if check:
        _check(manifest, manifest_path, path, as_json)
        return
    previous = _previous(path, upgrade)
    warnings: tuple[str, ...] = ()
    if previous is not None and is_current(previous, manifest) and not upgrade:
        new = previous
    else:
        new, warnings = _resolve(manifest, previous, upgrade)
    old_text = previous.dumps() if previous else None
    if new.dumps() != old_text:
        atomic_write(path, new.dumps().encode())
    for warning in warnings:
        say(f"warning: {warning}")
    _report(path, previous, new, warnings, as_json)


def _resolve(manifest: Manifest, previous: Lock | None, upgrade: bool) -> tuple[Lock, tuple[str, ...]]:
    check_endpoint()
    # Imported here: `bundle lock --check` and `--help` need no Hub client, which reads HF_ENDPOINT at once.
    from bundler.hub.connection.client import HubClient
    from bundler.hub.selection.resolve import resolve

    client = HubClient(on_note=say)
    resolution = resolve(manifest, client, previous=previous, upgrade=upgrade)
    return resolution.lock, resolution.warnings


def _previous(path: Path, upgrade: bool) -> Lock | None:
    try:
        return read_lock(path)
    except LockError as error:
        if upgrade:
            return None
        raise LockError(
            error.message, hint="bundle lock --upgrade writes it anew, giving up the commits that it pins"
        ) from error


def _check(manifest: Manifest, manifest_path: Path, path: Path, as_json: bool) -> None:
    found = read_lock(path)
    problems = ["there is no lock yet"] if found is None else differences(found, manifest)
    if as_json:
        print_json({"lock": str(path), "matches": not problems, "differences": problems})
    if not problems:
        say(f"{path} fits {manifest_path}")
        return
    listing = "".join(f"\n  {problem}" for problem in problems)
    fault = LockError(
        f"{path} does not fit {manifest_path}{listing}", hint=f"write it with: bundle lock {manifest_path}"
    )
    if not as_json:
        raise fault
    # The report stands in the place of the error's JSON: one document on stdout.
    say(f"error: {fault}")
    click.get_current_context().exit(fault.exit_code)


def _report(path: Path, previous: Lock | None, new: Lock, warnings: tuple[str, ...], as_json: bool) -> None:
    rows = _changes(previous, new)
    written = previous is None or new.dumps() != previous.dumps()
    if as_json:
        data = {
            "lock": str(path),
            "name": new.name,
            "written": written,
            "files": sum(len(repo.files) for repo in new.repos),
            "size_bytes": sum(repo.size_bytes for repo in new.repos),
            "repos": rows,
            "warnings": list(warnings),
        }
        print_json(data)
    for row in rows:
        say(_line(row))
    say(f"{path}: {'written' if written else 'up to date'}")


def _line(row: dict[str, Any]) -> str:
    what = f"  {row['status']:<9} {row['kind']} {row['repo_id']} {row['revision']}"
    if row["commit"] is None:
        return what
    commits = row["commit"][:12]
    if row["previous_commit"] not in (None, row["commit"]):
        commits = f"{row['previous_commit'][:12]} → {commits}"
    return f"{what}: {commits}, {counted(row['files'], 'file')}, {size(row['size_bytes'])}"


def _changes(previous: Lock | None, new: Lock) -> list[dict[str, Any]]:
    """Return a row per repo of either lock: what it is, and what became of it."""
    old = {(repo.kind, repo.repo_id, repo.revision): repo for repo in (previous.repos if previous else ())}
    rows = []
    for repo in new.repos:
        before = old.pop((repo.kind, repo.repo_id, repo.revision), None)
        status = "added" if before is None else "unchanged" if before == repo else "updated"
        rows.append(_row(repo, status, before))
    rows.extend(_row(repo, "removed", repo) for repo in old.values())
    return rows


def _row(repo: LockedRepo, status: str, before: LockedRepo | None) -> dict[str, Any]:
    gone = status == "removed"
    return {
        "kind": repo.kind,
        "repo_id": repo.repo_id,
        "revision": repo.revision,
        "status": status,
        "commit": None if gone else repo.commit,
        "previous_commit": before.commit if before else None,
        "files": 0 if gone else len(repo.files),
        "size_bytes": 0 if gone else repo.size_bytes,
    }
