"""What a store holds, in numbers; and deleting what no fetch has used for long.

Rule book:

* only names that a store gives are counted and deleted, so a folder that is none loses nothing;
* content counts as used when a fetch hashed it last (`Store.find_verified`); it goes with its record, the record first,
  so that what is left of a killed run is content that no run takes;
* a download that somebody may be at, and content that came since, stay.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.make.staging.partial import ORPHAN_SECONDS, may_be_alive

_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_KEY = re.compile(r"[0-9a-f]{64}\.json")
_RECORDS = ("prepared", "proven", "packed")


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A kind of files in a store.

    Attributes:
        files: How many.
        size_bytes: Their sizes together.
    """

    files: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class StagedFiles:
    """What a store holds.

    Attributes:
        content: Files of repos and of other hosts, checked, and prepared datasets.
        unfinished: Downloads that a later fetch goes on with.
        records: Notes of what was prepared, proven and packed.
    """

    content: Staged
    unfinished: Staged
    records: Staged


def count_staged(root: Path) -> StagedFiles:
    """Return what a store holds; nothing where there is none.

    Args:
        root: The store's folder.
    """
    return StagedFiles(
        content=_count(_list_content(root)),
        unfinished=_count(_list_unfinished(root)),
        records=_count(_list_records(root)),
    )


def prune_staged(root: Path, older_than_seconds: float, *, dry_run: bool = False) -> StagedFiles:
    """Delete what no fetch has used for a time; return what was deleted, or would be.

    Args:
        root: The store's folder.
        older_than_seconds: That time.
        dry_run: Delete nothing.

    Raises:
        OSError: A file cannot be deleted.
    """
    before = time.time() - older_than_seconds

    def choose(paths: Iterator[Path]) -> list[Path]:
        return [path for path in paths if (used := _used_at(path)) is not None and used <= before]

    content, records = choose(_list_content(root)), choose(_list_records(root))
    unfinished = [path for path in choose(_list_unfinished(root)) if not _is_owned(path)]
    found = StagedFiles(content=_count(content), unfinished=_count(unfinished), records=_count(records))
    if not dry_run:
        for path in content:
            _record_of(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        for path in (*unfinished, *records):
            path.unlink(missing_ok=True)
    return found


def _list_content(root: Path) -> Iterator[Path]:
    yield from (path for path in root.glob("blobs/??/*") if _ETAG.fullmatch(path.name))


def _list_unfinished(root: Path) -> Iterator[Path]:
    yield from (path for path in root.glob("partial/*") if _ETAG.fullmatch(path.name.partition(".")[0]))


def _list_records(root: Path) -> Iterator[Path]:
    for kind in _RECORDS:
        yield from (path for path in root.glob(f"{kind}/*") if _KEY.fullmatch(path.name))


def _record_of(content: Path) -> Path:
    return content.with_name(f"{content.name}.json")


def _used_at(path: Path) -> float | None:
    """Return when a file was used last, in seconds since the epoch; None if it has gone."""
    times = []
    for each in (path, _record_of(path)):
        with contextlib.suppress(FileNotFoundError):
            times.append(each.stat().st_mtime)
    return max(times, default=None)


def _is_owned(path: Path) -> bool:
    used = _used_at(path)
    return used is not None and may_be_alive(path, used, ORPHAN_SECONDS)


def _count(paths: Iterator[Path] | list[Path]) -> Staged:
    sizes = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return Staged(files=len(sizes), size_bytes=sum(sizes))
