"""Hash installed files, and compare them with what a lock expects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from bundler.files.digest import Digests
from bundler.files.hash_many import blake3_files
from bundler.plan.layout import Blob
from bundler.verify.report import Fault, Progress

# path for the report, expected content
Expected = tuple[str, Blob]


def compare_all(
    expected: Mapping[str, Expected], name_blob: Callable[[Blob], str], *, jobs: int, progress: Progress
) -> tuple[set[Fault], int]:
    """Hash each inode once, and return the faults and the number of bytes.

    Args:
        expected: Place on disk -> what must be there.
        name_blob: Returns what people call a content.
        jobs: Cores.
        progress: Called with the number of bytes hashed since the last call.

    Raises:
        PermissionError: A file may not be read, which says nothing about its content.
    """
    by_inode: dict[tuple[int, int], list[tuple[Path, Expected]]] = {}
    for place, wanted in expected.items():
        path = Path(place)
        status = path.stat()
        by_inode.setdefault((status.st_dev, status.st_ino), []).append((path, wanted))
    groups = list(by_inode.values())
    faults: set[Fault] = set()
    for number, found in blake3_files([group[0][0] for group in groups], jobs=jobs, progress=progress):
        for _, wanted in groups[number]:
            faults |= _compare(wanted, found, name_blob)
    return faults, sum(group[0][1][1].size_bytes for group in groups)


def _compare(wanted: Expected, found: Digests | OSError, name_blob: Callable[[Blob], str]) -> set[Fault]:
    path, blob = wanted
    if isinstance(found, PermissionError):
        raise found
    if isinstance(found, OSError):
        return {Fault("changed", path, f"{name_blob(blob)}: cannot be read: {found.strerror}")}
    if found.blake3 != blob.blake3:
        return {Fault("changed", path, f"{name_blob(blob)}: expected blake3 {blob.blake3}, found {found.blake3}")}
    return set()
