"""Locks of what a test's Hub serves, made with our own client."""

from __future__ import annotations

from pathlib import Path

from bundler.hub.connection.client import HubClient
from bundler.plan.lock import Lock, LockedRepo
from bundler.plan.names import RepoKind, repo_type_of


def locked(
    endpoint: str,
    repo_id: str,
    *,
    kind: RepoKind = "model",
    aliases: tuple[str, ...] = (),
    absent: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> LockedRepo:
    """Return a lock's entry for every file of a repo's main branch, less `without`."""
    client = HubClient(endpoint=endpoint)
    repo_type = repo_type_of(kind)
    revision = client.revision(repo_id, repo_type, "main")
    files = client.files(revision.repo_id, repo_type, revision.commit)
    return LockedRepo(
        kind=kind,
        repo_id=revision.repo_id,
        revision="main",
        commit=revision.commit,
        aliases=aliases,
        files=tuple(file for file in files if file.path not in without),
        absent=absent,
    )


def lock_of(*repos: LockedRepo, name: str = "test") -> Lock:
    """Return a lock of these entries."""
    return Lock(name=name, manifest_sha256="0" * 64, repos=repos)


def write_repo(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files of a plain repo below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
