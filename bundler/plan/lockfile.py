"""The lock beside its manifest: its path, reading it, and whether it fits the manifest.

Nothing here uses a network, so `bundle lock --check` and `bundle fetch --locked` need none to compare the two.
"""

from __future__ import annotations

from pathlib import Path

from bundler.errors import LockError
from bundler.plan.lock import MAX_CHARACTERS, Lock, LockedRepo
from bundler.plan.manifest import Entry, Manifest
from bundler.text.text_file import NotATextFileError, read_text_file


def lock_path(manifest_path: Path) -> Path:
    """Return the path of a manifest's lock: `demo.lock` beside `demo.yaml`."""
    return manifest_path.with_suffix(".lock")


def read_lock(path: Path) -> Lock | None:
    """Read a lock; None if there is no such file.

    Raises:
        LockError: It is not a file, not text, or malformed.
        OSError: It cannot be read.
    """
    try:
        text = read_text_file(path, "lock", max_bytes=MAX_CHARACTERS)
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise LockError(f"{path}: expected a lock, found a folder") from error
    except NotATextFileError as error:
        raise LockError(f"{path}: expected a lock: {error}") from error
    return Lock.loads(text, source=str(path))


def is_current(lock: Lock, manifest: Manifest) -> bool:
    """Return whether `lock` was resolved from exactly this manifest."""
    return lock.manifest_sha256 == manifest.digest() and lock.name == manifest.name


def find_locked(entry: Entry, lock: Lock) -> LockedRepo | None:
    """Return the lock's entry for `entry`: same list, same revision, and the same name or an alias of it."""
    for repo in lock.repos:
        if repo.kind == entry.kind and repo.revision == entry.revision and _is_called(repo, entry.repo_id):
            return repo
    return None


def pinned_commit(entry: Entry, lock: Lock) -> str | None:
    """Return the commit that `lock` has for an entry's repository and revision, in any list; None if it has none.

    A tokenizer entry and a model entry of one repository share the file `refs/main`, so they must have one commit.
    """
    for repo in lock.repos:
        same = repo.repo_type == entry.repo_type and repo.revision == entry.revision
        if same and _is_called(repo, entry.repo_id):
            return repo.commit
    return None


def list_differences(lock: Lock, manifest: Manifest) -> list[str]:
    """Return how a lock differs from a manifest, a line per difference; empty if `is_current`."""
    if is_current(lock, manifest):
        return []
    found = []
    if lock.name != manifest.name:
        found.append(f"name: the manifest says {manifest.name}, the lock {lock.name}")
    matched: list[LockedRepo] = []
    for entry in manifest.entries:
        repo = find_locked(entry, lock)
        if repo is None:
            found.append(f"{entry.label} at {entry.revision}: not in the lock")
            continue
        matched.append(repo)
        found.extend(_list_entry_differences(entry, repo))
    for file in manifest.files:
        entry_found = [repo for repo in lock.repos if repo.origin and repo.repo_id == file.name]
        matched += entry_found
        if not entry_found:
            found.append(f"{file.label}: not in the lock")
        elif file.sha256 not in (None, *(repo.origin.sha256 for repo in entry_found if repo.origin)):
            found.append(f"{file.label}: sha256 is {file.sha256}, in the lock another")
    found.extend(
        f"{repo.kind} {repo.repo_id} at {repo.revision}: in the lock, no longer in the manifest"
        for repo in lock.repos
        # Code that an entry names may have none of its own.
        if repo not in matched and not repo.has_only_code
    )
    # A lock holds the chosen files and not the patterns, so nothing more exact can be said.
    return found or ["the choice of files (allow_patterns or ignore_patterns) has changed"]


def _list_entry_differences(entry: Entry, repo: LockedRepo) -> list[str]:
    found = []
    if missing := sorted({*entry.aliases, entry.repo_id} - {*repo.aliases, repo.repo_id}):
        found.append(f"{entry.label}: aliases {', '.join(missing)} are not in the lock")
    for key in ("trust_remote_code", "allow_pickle", "base_elsewhere"):
        wanted = entry.trusts_code if key == "trust_remote_code" else getattr(entry, key)
        locked = getattr(repo, key)
        if wanted != locked:
            found.append(f"{entry.label}: {key} is {str(wanted).lower()}, in the lock {str(locked).lower()}")
    if sorted(entry.configs) != list(repo.configs):
        found.append(f"{entry.label}: configs are {_list(entry.configs)}, in the lock {_list(repo.configs)}")
    for key in ("data_files", "data_dirs"):
        if sorted(getattr(entry, key)) != list(getattr(repo, key)):
            there = _list(getattr(repo, key), "none")
            found.append(f"{entry.label}: {key} are {_list(getattr(entry, key), 'none')}, in the lock {there}")
    return found


def _is_called(repo: LockedRepo, name: str) -> bool:
    return name == repo.repo_id or name in repo.aliases


def _list(names: tuple[str, ...], empty: str = "all") -> str:
    return ", ".join(sorted(names)) or empty
