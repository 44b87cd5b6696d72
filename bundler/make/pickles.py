"""What a scanner says of the pickle files of a bundle: a report for people, and no proof.

A pickle file is a program, and scanners know some ways of hiding one and not others: what they find is worth a look,
and what they do not find means nothing. So nothing is refused here, and nothing is called safe.

The files are the content of strangers, so they are read in a process with bounds on its memory and its time.

Source: github.com/mmaitre314/picklescan, which does the scanning.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePosixPath

from bundler.hub.selection.pickle_names import is_pickle
from bundler.make.store import Store
from bundler.plan.lock import Lock, LockedFile
from bundler.text.wording import quoted

# For one file. A file of weights is a zip archive with a small pickle in it, whatever its size.
MAX_SECONDS = 60
MAX_MEMORY_BYTES = 2 << 30
# Of the dangerous and of the unknown names.
MAX_NAMES = 100


@dataclass(frozen=True, kw_only=True)
class PickleScan:
    """What the scanner says of one file.

    Attributes:
        repo_id: Its repo.
        path: In the repo.
        dangerous: What it calls that the scanner knows to be dangerous, as ``module.name``, sorted.
        unknown: What it calls that the scanner does not know, sorted.
        problem: Why it could not be scanned to its end; None if it could.
    """

    repo_id: str
    path: str
    dangerous: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    problem: str | None = None


def can_scan() -> bool:
    """Tell whether picklescan is installed."""
    return find_spec("picklescan") is not None


def list_pickles(lock: Lock) -> list[tuple[str, LockedFile]]:
    """Return the pickle files of a lock with the ids of their repos, each once."""
    found = {(repo.repo_id, file.path): file for repo in lock.repos for file in repo.files if is_pickle(file.path)}
    return [(repo_id, file) for (repo_id, _), file in found.items()]


def scan_pickles(lock: Lock, store: Store) -> tuple[PickleScan, ...]:
    """Scan the pickle files of a lock, whose content is in the store; none if picklescan is not installed.

    Returns:
        One for each file, in the order of the lock.
    """
    if not can_scan():
        return ()
    return tuple(_scan(repo_id, file, store) for repo_id, file in list_pickles(lock))


def _scan(repo_id: str, file: LockedFile, store: Store) -> PickleScan:
    suffix = PurePosixPath(file.path).suffix
    command = [sys.executable, "-I", "-c", _CHILD, str(store.path(file.etag)), suffix, str(MAX_MEMORY_BYTES)]
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")}
    try:
        done = subprocess.run(command, capture_output=True, timeout=MAX_SECONDS, env=env, check=False)
    except subprocess.TimeoutExpired:
        return PickleScan(repo_id=repo_id, path=file.path, problem=f"not done after {MAX_SECONDS} s")
    try:
        found = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        problem = f"the scanner ended with {done.returncode}: {quoted(last)}"
        return PickleScan(repo_id=repo_id, path=file.path, problem=problem)
    unread = "parts of it are no pickle that the scanner can read"
    return PickleScan(
        repo_id=repo_id,
        path=file.path,
        dangerous=_sort_names(found["dangerous"]),
        unknown=_sort_names(found["unknown"]),
        problem=unread if found["failed"] else None,
    )


def _sort_names(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({quoted(name)[1:-1] for name in names})[:MAX_NAMES])


# Run by an isolated interpreter, which finds installed packages only.
_CHILD = """
import json, logging, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]),) * 2)
from picklescan.scanner import SafetyLevel, scan_bytes
logging.disable()
with open(sys.argv[1], "rb") as data:
    result = scan_bytes(data, "file", sys.argv[2])
names = lambda level: [f"{one.module}.{one.name}" for one in result.globals if one.safety == level]
print(json.dumps({
    "dangerous": names(SafetyLevel.Dangerous),
    "unknown": names(SafetyLevel.Suspicious),
    "failed": result.scan_err,
}))
"""
