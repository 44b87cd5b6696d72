"""Hash installed files, and compare them with what a lock expects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundler.files.digest import Digests
from bundler.files.hash_many import blake3_files
from bundler.plan.layout import Blob
from bundler.verify.report import Fault, Progress

# path and name for the report, expected content
Expected = tuple[str, str, Blob]


def compare_all(expected: Mapping[Path, Expected], *, jobs: int, progress: Progress) -> tuple[set[Fault], int]:
    """Hash each inode once, and return the faults and the number of bytes.

    Args:
        expected: Place on disk -> what must be there.
        jobs: Cores.
        progress: Called with the number of bytes hashed since the last call.

    Raises:
        PermissionError: A file may not be read, which says nothing about its content.
    """
    by_inode: dict[tuple[int, int], list[tuple[Path, Expected]]] = {}
    for place, wanted in expected.items():
        status = place.stat()
        by_inode.setdefault((status.st_dev, status.st_ino), []).append((place, wanted))
    groups = list(by_inode.values())
    faults: set[Fault] = set()
    for number, found in blake3_files([group[0][0] for group in groups], jobs=jobs, progress=progress):
        for _, wanted in groups[number]:
            faults |= _faults(wanted, found)
    return faults, sum(group[0][1][2].size_bytes for group in groups)


def _faults(wanted: Expected, found: Digests | OSError) -> set[Fault]:
    path, name, blob = wanted
    if isinstance(found, PermissionError):
        raise found
    if isinstance(found, OSError):
        return {Fault("changed", path, f"{name}: cannot be read: {found.strerror}")}
    if found.blake3 != blob.blake3:
        return {Fault("changed", path, f"{name}: expected blake3 {blob.blake3}, found {found.blake3}")}
    return set()
