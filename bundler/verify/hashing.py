"""Hash installed files on all cores, and compare them with what a lock expects."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bundler.cache import Blob
from bundler.digest import blake3_file
from bundler.verify.report import Fault, Progress

# path and name for the report, expected content
Expected = tuple[str, str, Blob]
_Group = list[tuple[Path, Expected]]

# How much faster one file is hashed by all cores than by one: a thread must copy it from the page cache meanwhile,
# and more cores than two find nothing to do. Measured 1.5 on two cores.
_SPLIT_GAIN = 1.5
# Files of less than this share of all even each other out.
_LARGE_SHARE = 0.01


def compare_all(expected: Mapping[Path, Expected], *, jobs: int, progress: Progress) -> tuple[set[Fault], int]:
    """Hash each inode once, and return the faults and the number of bytes.

    Args:
        expected: Place on disk -> what must be there.
        jobs: Cores.
        progress: Called with the number of bytes hashed since the last call.

    Raises:
        PermissionError: A file may not be read, which says nothing about its content.
    """
    by_inode: dict[tuple[int, int], _Group] = {}
    for place, wanted in expected.items():
        status = place.stat()
        by_inode.setdefault((status.st_dev, status.st_ino), []).append((place, wanted))
    # Largest first, so that no core is left alone with a large file at the end.
    groups = sorted(by_inode.values(), key=_size, reverse=True)
    faults: set[Fault] = set()
    alone = set(to_split([_size(group) for group in groups], jobs))
    for number in sorted(alone):
        faults |= _compare(groups[number], jobs, progress)
    beside = [group for number, group in enumerate(groups) if number not in alone]
    with ThreadPoolExecutor(jobs, thread_name_prefix="verify") as pool:
        for found in pool.map(lambda group: _compare(group, 1, progress), beside):
            faults |= found
    return faults, sum(map(_size, groups))


def to_split(sizes: Sequence[int], cores: int) -> list[int]:
    """Choose the files that all cores hash together, one after the other; the rest is hashed side by side.

    Side by side is faster while every core has a file: only what would keep one core busy alone is worth splitting.

    Args:
        sizes: In bytes, the largest first.
        cores: How many there are.

    Returns:
        Their positions in `sizes`.
    """
    total = sum(sizes)
    large = [number for number, size in enumerate(sizes) if size > total * _LARGE_SHARE] if cores > 1 else []
    chosen: list[int] = []
    needed = _side_by_side(sizes, large, total, cores)
    while True:
        rest = total - sum(sizes[number] for number in chosen)
        options = [
            (
                sum(sizes[n] for n in (*chosen, number)) / _SPLIT_GAIN
                + _side_by_side(sizes, [n for n in large if n != number], rest - sizes[number], cores),
                number,
            )
            for number in large
        ]
        least, number = min(options, default=(needed, -1))
        if least >= needed:
            return chosen
        needed = least
        chosen.append(number)
        large.remove(number)


def _side_by_side(sizes: Sequence[int], large: Sequence[int], total: int, cores: int) -> float:
    """Return the most that one core gets of `total` bytes if each takes the next largest file when it is free."""
    loads = [0] * cores
    for number in large:
        heapq.heapreplace(loads, loads[0] + sizes[number])
    return max(max(loads), total / cores)


def _size(group: _Group) -> int:
    return group[0][1][2].size_bytes


def _compare(group: _Group, threads: int, progress: Progress) -> set[Fault]:
    try:
        found = blake3_file(group[0][0], threads=threads, progress=progress).blake3
    except PermissionError:
        raise
    except OSError as error:
        return {
            Fault("changed", path, f"{name}: cannot be read: {error.strerror}") for _, (path, name, _) in group
        }
    return {
        Fault("changed", path, f"{name}: expected blake3 {blob.blake3}, found {found}")
        for _, (path, name, blob) in group
        if blob.blake3 != found
    }
