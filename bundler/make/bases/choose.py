"""Choose the bases of a bundle that is about to be packed, and read them: from files, and from an older bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from bundler.format.contents.bases import MIN_BASE_BYTES
from bundler.format.cut import Chunk
from bundler.format.index import ChunkRecord
from bundler.format.reader import BundleReader
from bundler.format.writer import ReadyChunks, read_blob
from bundler.make.bases.find import BaseFinder, FoundBases
from bundler.plan.layout import Blob


def choose_bases(
    blobs: Iterable[Blob],
    blob_path: Callable[[Blob], Path],
    *,
    omitted: frozenset[str] = frozenset(),
    older: BundleReader | None = None,
    stored: Mapping[Blob, Path] | None = None,
) -> FoundBases:
    """Choose what the contents of a bundle are stored as differences from.

    Args:
        blobs: All blobs of the bundle, in the order of the tar stream.
        blob_path: Where the content of a blob can be read.
        omitted: Contents (sha256) that are not in the stream: a delta's base has them.
        older: The bundle that a delta is made against; None where there is none, or only its lock is known.
        stored: Other contents of a delta's base -> verified files.

    Raises:
        DamagedError: A chunk of `older` is damaged.
        IntegrityError: A blob is shorter than the lock says.
        OSError: It cannot be read.
    """
    first: dict[str, Blob] = {}
    for blob in blobs:
        # Of 100,000 files nearly all are smaller than whatever is or has a base.
        if blob.size_bytes >= MIN_BASE_BYTES:
            first.setdefault(blob.sha256, blob)
    files = {blob.sha256: (blob, blob_path(blob)) for blob in first.values()}
    outside = [blob for blob in first.values() if blob.sha256 in omitted]
    for blob, path in (stored or {}).items():
        if files.setdefault(blob.sha256, (blob, path))[0] is blob:
            outside.append(blob)
    if older is not None:
        # What it cannot give back by itself is a difference from its own base.
        outside += [b for b in older.plan.layout.blobs if b.sha256 not in files and b.sha256 in older.contents]
    sources = _Sources(files, older)
    finder = BaseFinder(sources, sources.open)
    for blob in outside:
        if blob.size_bytes >= MIN_BASE_BYTES:
            finder.show(blob)
    return finder.find(blob for blob in first.values() if blob.sha256 not in omitted)


class _Sources:
    """Reads contents from files, and those that are not there from an older bundle (see `Contents`)."""

    def __init__(self, files: Mapping[str, tuple[Blob, Path]], older: BundleReader | None) -> None:
        self._files = files
        self._older = older

    def open(self, blob: Blob) -> AbstractContextManager[BinaryIO]:
        if blob.sha256 in self._files:
            return self._files[blob.sha256][1].open("rb")
        assert self._older is not None, "whatever has no file is of the older bundle"
        return self._older.open_blob(blob)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._files or (self._older is not None and sha256 in self._older.contents)

    def read_into(self, sha256: str, offset: int, room: memoryview) -> None:
        if sha256 in self._files:
            blob, path = self._files[sha256]
            read_blob(path, blob, offset, room)
        else:
            assert self._older is not None, "whatever has no file is of the older bundle"
            self._older.contents.read_into(sha256, offset, room)


class ReadyBut(ReadyChunks):
    """Chunks that were encoded before, but for contents that have bases.

    Args:
        ready: All that were.
        found: What has bases.
    """

    def __init__(self, ready: ReadyChunks, found: FoundBases) -> None:
        self._ready = ready
        self._bases = found.bases

    def take(self, chunk: Chunk) -> tuple[ChunkRecord, bytes] | None:
        """Return the record and the frames of a chunk (see `ReadyChunks`)."""
        blob = chunk.pieces[0].blob
        return None if blob is not None and blob.sha256 in self._bases else self._ready.take(chunk)
