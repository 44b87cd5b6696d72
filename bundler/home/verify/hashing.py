"""Hash installed files, and compare them with what a lock expects."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bundler.files.digest import Digests
from bundler.files.hash_many import blake3_files
from bundler.files.stamp import Inode
from bundler.plan.layout import Blob
from bundler.verify.report import Fault, Progress

# What was hashed already.
Hashed = dict[Inode, Digests | OSError]
# path for the report, expected content, what stands there
Expected = tuple[str, Blob, Inode]


def compare_all(
    expected: Mapping[str, Expected],
    name_blob: Callable[[Blob], str],
    *,
    jobs: int,
    progress: Progress,
    hashed: Hashed | None = None,
) -> tuple[set[Fault], int]:
    """Hash each inode once, and return the faults and the number of bytes that were hashed.

    Args:
        expected: Place on disk -> what must be there.
        name_blob: Returns what people call a content.
        jobs: Cores.
        progress: Called with the number of bytes hashed since the last call.
        hashed: What is in there is not hashed again; what is hashed is added.

    Raises:
        PermissionError: A file may not be read, which says nothing about its content.
    """
    known: Hashed = {} if hashed is None else hashed
    fresh: dict[Inode, str] = {}
    for place, (_, _, inode) in expected.items():
        if inode not in known:
            fresh.setdefault(inode, place)
    order, sizes = list(fresh), [inode[2] for inode in fresh]
    for number, found in blake3_files(list(fresh.values()), jobs=jobs, sizes=sizes, progress=progress):
        known[order[number]] = found
    faults = {
        fault for path, blob, inode in expected.values() for fault in _compare(path, blob, known[inode], name_blob)
    }
    return faults, sum(sizes)


def _compare(path: str, blob: Blob, found: Digests | OSError, name_blob: Callable[[Blob], str]) -> set[Fault]:
    if isinstance(found, PermissionError):
        raise found
    if isinstance(found, OSError):
        return {Fault("changed", path, f"{name_blob(blob)}: cannot be read: {found.strerror}")}
    if found.blake3 != blob.blake3:
        return {Fault("changed", path, f"{name_blob(blob)}: expected blake3 {blob.blake3}, found {found.blake3}")}
    return set()
