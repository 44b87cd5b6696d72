"""Record a command: run it, and write the manifest and the lock of what it loaded. `bundle record` prints.

Rule book:

* what can be told before a long program runs is told there: a manifest with faults, a damaged lock, a folder that
  cannot be written to, no such command;
* a program that fails is recorded as far as it came;
* an existing manifest keeps its text, and gets what is missing; an entry is never narrowed;
* the lock is pinned at the commits that were used, also where the Hub has moved on since;
* both files are written at the end, whole or not at all; nothing is written where nothing of the Hub was loaded.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bundler.draft.manifest_text import add_command, edit_manifest, new_manifest
from bundler.draft.names import name_bundle
from bundler.draft.record.advice import list_advice
from bundler.draft.record.entries import make_entry, widen_entry
from bundler.draft.record.gather import RepoUse, gather
from bundler.draft.record.notes import HostUse, UrlUse
from bundler.draft.record.run import Ran, run_watched
from bundler.draft.record.web_files import make_files
from bundler.draft.write import find_entry
from bundler.errors import UsageError
from bundler.files.access import check_writable
from bundler.files.atomic import atomic_write
from bundler.hub.connection.endpoint import check_endpoint
from bundler.make.lock import add_files
from bundler.make.observer import Observer
from bundler.plan.lock import Lock, LockedRepo
from bundler.plan.lockfile import lock_path, read_lock
from bundler.plan.manifest import Entry, FileEntry, Manifest, read_manifest
from bundler.plan.manifest_rules import proof_problem

Status = Literal["added", "widened", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class RecordedRepo:
    """A repo that the command loaded.

    Attributes:
        status: Whether the manifest got an entry for it, got more into one, or had all of it.
        kind: tokenizer, model or dataset.
        repo_id: Its present name.
        revision: Branch, tag or commit that was asked for.
        commit: The commit that was read, which the lock pins.
        aliases: Other names that it was asked for by.
        files: Paths that were read, sorted.
        configs: Configurations of a dataset that were built.
        splits: Splits that were asked for.
    """

    status: Status
    kind: str
    repo_id: str
    revision: str
    commit: str
    aliases: tuple[str, ...]
    files: tuple[str, ...]
    configs: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A command that was recorded.

    Attributes:
        exit_code: The command's.
        manifest: The manifest's path; None if nothing of the Hub was loaded, and nothing written.
        lock: The lock's path; None likewise.
        repos: What was loaded, in the order of the manifest's additions.
        hosts: Other hosts that were asked, with the line of code or the program.
        urls: Files of other hosts that libraries keep in caches of their own.
        warnings: What a manifest cannot say, or a person should know.
        unseen: What cannot have been seen.
    """

    exit_code: int
    manifest: Path | None
    lock: Path | None
    repos: tuple[RecordedRepo, ...]
    hosts: tuple[HostUse, ...]
    urls: tuple[UrlUse, ...]
    warnings: tuple[str, ...]
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class _Before:
    """What is there before the command runs."""

    text: str | None
    manifest: Manifest | None
    lock: Lock | None


def record(
    command: Sequence[str],
    manifest_path: Path,
    *,
    name: str | None = None,
    prove: bool = False,
    observer: Observer | None = None,
) -> Recorded:
    """Run a command online and write down what it loads; to be called in the main thread.

    Args:
        command: Command and arguments.
        manifest_path: The manifest to write, or to add to.
        name: The bundle's name in a new manifest; default from the file's name, or that of its folder.
        prove: Whether the manifest gets the command as a proof, which every fetch of it runs again.
        observer: Gets notes and warnings.

    Raises:
        ManifestError: The manifest that is there has faults.
        LockError: The lock that is there has.
        UsageError: This is an offline launch; `name` is another than the manifest's; or a manifest cannot have the
            command.
        CommandNotFoundError: There is no such command.
        HubError: The Hub refused.
        NetworkError: The Hub cannot be reached.
    """
    watcher = observer or Observer()
    before = _read_before(manifest_path, name)
    line = _spell_command(command) if prove else None
    _check_online()
    ran = run_watched(command)
    watcher.note(
        f"the command ended with {ran.exit_code}; the Hub is asked for the names and files of what it loaded"
    )
    from bundler.hub.connection.client import HubClient
    from bundler.hub.selection.resolve import resolve

    client = HubClient(on_note=watcher.note)
    found = gather(ran.notes, client)
    advice = list_advice(ran.notes, found)
    files, _ = make_files(ran.notes.urls)
    if not (found.repos or files):
        return _sum_up(ran, advice, (), None)
    repos, entries = [], list(before.manifest.entries if before.manifest else ())
    for use in found.repos:
        paths = [file.path for file in client.files(use.repo_id, use.repo_type, use.commit)]
        status = _put(entries, use, paths)
        repos.append(_describe(use, status, entries, ran.notes.splits))
    text = _spell(before, entries, files, manifest_path, name)
    if line is not None:
        text = add_command(text, line, source=str(manifest_path))
    manifest = Manifest.parse(text, source=str(manifest_path))
    resolution = resolve(manifest, client, previous=_pin(manifest, before.lock, found.repos))
    lock = add_files(resolution.lock, manifest, before.lock, "reuse", watcher, None)
    atomic_write(lock_path(manifest_path), lock.encoded)
    if text != before.text:
        atomic_write(manifest_path, text.encode())
    return _sum_up(ran, (*advice, *resolution.warnings), tuple(repos), manifest_path)


def _check_online() -> None:
    check_endpoint()
    # The client reads the environment when it is imported. What it will need afterwards is told before.
    from huggingface_hub import constants

    from bundler.hub.connection.failures import offline_error

    if constants.HF_HUB_OFFLINE:
        raise offline_error()


def _read_before(manifest_path: Path, name: str | None) -> _Before:
    if lock_path(manifest_path) == manifest_path:
        raise UsageError(
            f"{manifest_path} is the name of a lock", hint="write the manifest to a file such as train.yaml"
        )
    check_writable(manifest_path.absolute().parent)
    if not manifest_path.exists():
        return _Before(None, None, None)
    text = read_manifest(manifest_path)
    manifest = Manifest.parse(text, source=str(manifest_path), may_be_empty=True)
    if name is not None and name != manifest.name:
        raise UsageError(
            f"{manifest_path} is the manifest of {manifest.name}, not of {name}",
            hint="leave --name out, or write to another file with -o",
        )
    return _Before(text, manifest, read_lock(lock_path(manifest_path)))


def _spell_command(command: Sequence[str]) -> str:
    line = shlex.join(command)
    if problem := proof_problem(line):
        raise UsageError(f"a manifest cannot have this command as a proof: {problem}", hint="put it into a script")
    return line


def _spell(
    before: _Before, entries: Sequence[Entry], files: Sequence[FileEntry], manifest_path: Path, name: str | None
) -> str:
    if before.text is not None:
        return edit_manifest(before.text, entries, files=files, source=str(manifest_path))
    comment = "Written by `bundle record`; edit it as you like."
    return new_manifest(name or name_bundle(manifest_path), entries, files=files, comment=comment)


def _put(entries: list[Entry], use: RepoUse, paths: Sequence[str]) -> Status:
    """Add what was read of a repo to the entries of a manifest, or widen the one that it has."""
    wanted = make_entry(use, paths)
    index = find_entry(entries, wanted)
    if index is None:
        entries.append(wanted)
        return "added"
    before = entries[index]
    entries[index] = widen_entry(before, wanted, use, paths)
    return "unchanged" if entries[index] == before else "widened"


def _pin(manifest: Manifest, before: Lock | None, uses: Sequence[RepoUse]) -> Lock:
    """Return a lock that has the commits that were used, and for all else those that were locked before."""
    repos = before.repos if before else ()
    pins = [
        LockedRepo(
            kind=use.repo_type,
            repo_id=use.repo_id,
            revision=use.revision,
            commit=use.commit,
            aliases=use.aliases,
            files=(),
        )
        for use in uses
        if not any(
            (repo.repo_type, repo.repo_id, repo.revision, repo.commit)
            == (use.repo_type, use.repo_id, use.revision, use.commit)
            for repo in repos
        )
    ]
    return Lock(name=manifest.name, manifest_sha256="", repos=(*pins, *repos))


def _describe(
    use: RepoUse, status: Status, entries: list[Entry], splits: dict[str, tuple[str, ...]]
) -> RecordedRepo:
    entry = next(e for e in entries if e.repo_type == use.repo_type and use.repo_id in (e.repo_id, *e.aliases))
    names = (use.repo_id, *use.aliases)
    return RecordedRepo(
        status=status,
        kind=entry.kind,
        repo_id=use.repo_id,
        revision=use.revision,
        commit=use.commit,
        aliases=use.aliases,
        files=tuple(sorted(use.files)),
        configs=tuple(dict.fromkeys(asked.config for asked in use.datasets)),
        splits=tuple(dict.fromkeys(split for name in names for split in splits.get(name, ()))),
    )


def _sum_up(
    ran: Ran, warnings: Sequence[str], repos: tuple[RecordedRepo, ...], manifest_path: Path | None
) -> Recorded:
    hosts = dict.fromkeys(replace(use, address="", argv=()) for use in ran.notes.hosts)
    return Recorded(
        exit_code=ran.exit_code,
        manifest=manifest_path,
        lock=lock_path(manifest_path) if manifest_path else None,
        repos=repos,
        hosts=tuple(hosts),
        urls=ran.notes.urls,
        warnings=tuple(warnings),
        unseen=ran.unseen,
    )
