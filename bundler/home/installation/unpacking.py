"""Content of a bundle on its way from the chunks into files, written and hashed by the threads that decode it.

A large file is written in parts, in any order. Small files lie in one chunk by the thousand; they are cut out of it
and hashed in the order of the bundle, by one thread at a time.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from bundler.errors import IntegrityError
from bundler.files.digest import Digests, hash_bytes
from bundler.files.parallel import Lane, count_down
from bundler.files.small_files import SMALL_BYTES, SmallFiles
from bundler.format.codec.codecs import Buffer
from bundler.format.contents.files import FileContents
from bundler.format.source import Source, Take
from bundler.format.tar import Member
from bundler.home.installation.large_file import LargeFile
from bundler.plan.layout import Blob
from bundler.verify.report import Progress

# A part of a file in a run: its member, where it begins in the run, and where it ends.
_Part = tuple[Member, int, int]


class Unpacking:
    """Takes the runs of a tar stream, and writes the files that lie in them.

    The end of the `with` block waits for all small files; after an error, large ones that are not whole are deleted.

    Args:
        bundle: Where the runs come from.
        members: What is to be written, sorted by offset.
        places: sha256 -> where a content is to be written.
        done: Gets each large file once it is whole.
        progress: Called with the number of bytes written since the last call, by one thread at a time.
        is_read_soon: Leave what is written in the page cache.
    """

    def __init__(
        self,
        bundle: Source,
        members: Sequence[Member],
        places: Mapping[str, str],
        done: FileContents,
        progress: Progress,
        *,
        is_read_soon: bool,
    ) -> None:
        self._label = bundle.label
        self._contents = bundle.plan.layout.contents
        # Those of no bytes are in no run.
        self._empty = [member for member in members if not member.size_bytes]
        self._members = [member for member in members if member.size_bytes]
        self._offsets = [member.offset for member in self._members]
        self._places = places
        self._done = done
        self._progress = progress
        self._mutex = threading.Lock()
        self._is_read_soon = is_read_soon
        self._small_files = SmallFiles()
        self._large: dict[str, LargeFile] = {}
        # Runs with small files are numbered in the order in which they were prepared for.
        self._small_lane = Lane()
        self._small_runs = 0
        # What came so far of a small file that lies in two runs.
        self._begun = b""

    def __enter__(self) -> Unpacking:
        self._small_files.__enter__()
        for member in self._empty:
            self._write_small(member, b"")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for file in self._large.values():
                file.discard()
        finally:
            self._small_files.__exit__(kind, error, trace)

    def prepare(self, start: int, stop: int) -> Take:
        """Return what takes bytes `start` to `stop` of the tar stream (`bundler.format.source.Prepare`).

        Raises:
            OSError: A file cannot be made.
        """
        small: list[_Part] = []
        large: list[_Part] = []
        at = max(bisect_right(self._offsets, start) - 1, 0)
        while at < len(self._members) and (member := self._members[at]).offset < stop:
            first, last = max(member.offset, start), min(member.offset + member.size_bytes, stop)
            if first < last:
                (small if member.size_bytes <= SMALL_BYTES else large).append(
                    (member, first - start, last - start)
                )
            at += 1
        files = [self._open(member) for member, _, _ in large]
        number = self._small_runs
        self._small_runs += bool(small)

        def take(raw: Buffer, done: Callable[[], None]) -> None:
            run = memoryview(raw)
            release = count_down(len(large) + bool(small), done)
            for file, (member, first, last) in zip(files, large, strict=True):
                file.write(start + first - member.offset, run[first:last], release)
                self._tell(last - first)
            if small:
                self._small_lane.put(number, number + 1, partial(self._take_small, run, small, release))

        return take

    def _open(self, member: Member) -> LargeFile:
        sha256 = _blob_of(member).sha256
        if sha256 not in self._large:
            self._large[sha256] = LargeFile(
                Path(self._places[sha256]),
                self._contents[sha256],
                partial(self._check, member),
                partial(self._end_large, sha256),
                keep_cached=self._is_read_soon,
            )
        return self._large[sha256]

    def _end_large(self, sha256: str) -> None:
        self._done.add(sha256, self._places[sha256])
        del self._large[sha256]

    def _take_small(self, run: memoryview, parts: Sequence[_Part], release: Callable[[], None]) -> None:
        for member, first, last in parts:
            content = bytes(run[first:last])
            if len(content) < member.size_bytes:
                # Copied: a run is gone when the next is there.
                content = self._begun = self._begun + content
                if len(content) < member.size_bytes:
                    break
                self._begun = b""
            self._write_small(member, content)
        self._tell(sum(last - first for _, first, last in parts))
        release()

    def _tell(self, count: int) -> None:
        with self._mutex:
            self._progress(count)

    def _write_small(self, member: Member, content: bytes) -> None:
        sha256 = _blob_of(member).sha256
        self._check(member, hash_bytes(content, *self._contents[sha256].algorithms))
        self._small_files.write(self._places[sha256], content)

    def _check(self, member: Member, found: Digests) -> None:
        if problem := self._contents[_blob_of(member).sha256].compare(found):
            raise IntegrityError(
                f"{self._label}: {member.path}: {problem}",
                hint="the bundle was made from other bytes than its lock names: fetch it again",
            )


def _blob_of(member: Member) -> Blob:
    assert member.blob is not None, "only members with content of their own are asked for"
    return member.blob
