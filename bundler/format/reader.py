"""Read a bundle: its index first, then any part of the tar stream; each chunk is checked before it is decoded.

Rule book:

* nothing is used before its digest is checked: trailer -> index (SHA-256) -> chunks (BLAKE3) -> lock (SHA-256);
* the lock decides what is in the stream and where: names in tar headers are only compared, and no file is written
  under them;
* opening reads only the end of the file, so a bundle of any size opens in milliseconds.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType

from bundler.errors import BundleError, DamagedError, FormatError, MissingBaseError
from bundler.format.base_records import BaseRecord
from bundler.format.chunk import align, check_stored, decode_chunk
from bundler.format.codec.buffers import BufferPool
from bundler.format.codec.codecs import Buffer
from bundler.format.codec.expansion import Work
from bundler.format.contents.bases import BasePlace, Bases, Contents
from bundler.format.contents.cost import BaseCosts
from bundler.format.contents.own import OwnContents
from bundler.format.contents.spans import BlobStream, copy_span, list_chunks
from bundler.format.front import front_spans, parse_listed_bases, parse_lock, parse_omitted, plan_stream
from bundler.format.index import CHUNK_HEADER_BYTES, check_front_bytes, chunk_header
from bundler.format.opening import read_index
from bundler.format.reading.chunks import decode_in_order, hand_out, order_by_turns
from bundler.format.source import Prepare, Span
from bundler.format.storage.remote import RemoteStored
from bundler.format.storage.stored import Stored
from bundler.format.storage.volumes import VolumeSet, open_stored
from bundler.format.tar import BLOCK, Member, TarPlan
from bundler.plan.layout import Blob
from bundler.plan.lock import Lock
from bundler.remote.address import Address, Place
from bundler.remote.object import SERVER_ERRORS

# Buffers for longer chunks than any that a writer makes are not used again: there would be many of them.
_POOLED_BYTES = 9 << 20


class BundleReader:
    """Random access to one bundle, in a file or in volumes.

    Use it as a context manager, or call `close`. All methods may be called from several threads.

    Args:
        place: See `bundler.format.storage.volumes.open_stored`; or an object that was opened, and is closed with this.

    Attributes:
        path: The file, volumes or address that was opened.
        size_bytes: Length of the bundle.
        index: Its checked table of contents.
        pooled_bytes: Length of buffers that are used for one chunk after the other.
        elsewhere: Where else than in this bundle contents can be read that chunks are differences from.

    Raises:
        FormatError: It is not a bundle, damaged, or of another version; the message starts with the path.
    """

    elsewhere: Contents | None = None
    is_read_once = False

    def __init__(self, place: Place | Sequence[Place] | Stored) -> None:
        self._stored = open_stored(place) if isinstance(place, Path | Address | Sequence) else place
        self.path = self._stored.path
        self.size_bytes = self._stored.size_bytes
        try:
            self.index = read_index(self._stored)
            self._raw_starts = self.index.raw_starts()
            self._stored_starts = self.index.stored_starts()
            if isinstance(self._stored, RemoteStored):
                self._stored.check_digest(self.index.digest)
            largest = max(map(self.room_bytes, range(len(self.index.chunks))), default=0)
            self.pooled_bytes = min(largest, _POOLED_BYTES)
            self._base_buffers = BufferPool(self.pooled_bytes)
        except BaseException as error:
            self._stored.close()
            if not isinstance(error, BundleError) or isinstance(error, SERVER_ERRORS):
                raise
            message = error.message.removeprefix(f"{self.path}: ")
            raise FormatError(f"{self.path}: {message}", hint=error.hint) from error

    def __enter__(self) -> BundleReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; further reads fail."""
        self._stored.close()

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.index.name

    @property
    def label(self) -> str:
        """The bundle's path, for messages."""
        return str(self.path)

    @property
    def base(self) -> BaseRecord | None:
        """What a delta records about its base; None for a whole bundle."""
        return self.index.base

    @property
    def place(self) -> Place | list[Path]:
        """Where it is: its volumes, its file or its address."""
        return self.volumes or self.path

    @property
    def volumes(self) -> list[Path]:
        """Its files, if it is in volumes; else an empty list."""
        return [volume.path for volume in self._stored.volumes] if isinstance(self._stored, VolumeSet) else []

    @cached_property
    def digest(self) -> str:
        """The bundle's digest, ``sha256:<hex>``."""
        return self.index.digest

    @property
    def whole_digest(self) -> str:
        """The digest that an installation has: of a delta that of the whole bundle, if it says it; else its own."""
        return self.index.whole_digest

    @cached_property
    def lock(self) -> Lock:
        """The lock inside, checked against the index.

        Raises:
            FormatError: It is damaged, or not the lock that the index names.
            LockError: It is malformed.
        """
        # The lock is the first member, and its name is too short for a pax header: only one block is before it.
        check_front_bytes(self.index.lock_bytes, self.size_bytes)
        text = self.read(BLOCK, self.index.lock_bytes)
        return parse_lock(text, self.index, self.path)

    @cached_property
    def omitted(self) -> frozenset[str] | None:
        """The contents (sha256) that a delta leaves out because its base has them; None for a whole bundle.

        Raises:
            FormatError: The list is damaged, or not the one that the index names.
        """
        record = self.index.base
        return parse_omitted(self._read_list(0), record, self.path) if record else None

    @cached_property
    def bases(self) -> Bases:
        """Contents (sha256) that are stored as differences -> what from.

        Raises:
            FormatError: The list is damaged, or not the one that the index names.
        """
        record = self.index.bases
        return parse_listed_bases(self._read_list(-1), record, self.path) if record else {}

    @cached_property
    def plan(self) -> TarPlan:
        """What the tar stream must be according to the lock.

        Raises:
            FormatError: The stream has another length, or a content another base than it may have.
        """
        return plan_stream(self.lock, self.omitted, self.bases, self.index, self.path)

    @cached_property
    def contents(self) -> OwnContents:
        """Its contents, to be read in any order."""
        return OwnContents(self, self.index.chunks, self._spans, self.bases, self._base_buffers)

    @cached_property
    def _front(self) -> list[Span]:
        return front_spans(self.index)

    def _read_list(self, number: int) -> bytes:
        start, stop = self._front[1:][number]
        check_front_bytes(stop - start, self.size_bytes)
        return self.read(start, stop - start)

    @cached_property
    def base_costs(self) -> BaseCosts:
        """What decoding differences takes besides."""
        spans = self._spans if self.bases else {}
        return BaseCosts(self.index.chunks, self._raw_starts, self.plan.differences, self.bases, spans)

    @cached_property
    def _spans(self) -> dict[str, Span]:
        return {sha256: (m.offset, m.offset + m.size_bytes) for sha256, m in self.plan.first_of.items()}

    def stored_chunk(self, number: int, room: bytearray | None = None) -> memoryview:
        """Return a chunk as it is stored, header and frames, checked.

        Args:
            number: Number of the chunk, from 0.
            room: A buffer to read it into, long enough; by default new memory.

        Raises:
            DamagedError: The chunk is damaged; the message names it and its volume.
        """
        record = self.index.chunks[number]
        start = self._stored_starts[number] - CHUNK_HEADER_BYTES
        size = CHUNK_HEADER_BYTES + record.stored_bytes
        stored = memoryview(bytearray(size) if room is None else room)[:size]
        self._stored.read_into(start, stored)
        try:
            if stored[:CHUNK_HEADER_BYTES] != chunk_header(record):
                raise DamagedError(f"chunk {number} is damaged: its header differs from the index")
            check_stored(record, stored[CHUNK_HEADER_BYTES:], number=number)
        except FormatError as error:
            where = self._stored.file_at(start)
            raise DamagedError(f"{where}: {error.message}", hint=error.hint, chunk=number) from error
        return stored

    def new_work(self) -> Work:
        """Return what may be decoded of bases in one pass through the bundle."""
        return Work(self.size_bytes)

    def chunk(self, number: int, room: bytearray | None = None, work: Work | None = None) -> Buffer:
        """Return a chunk's run of the tar stream, checked and decoded.

        Args:
            number: Number of the chunk, from 0.
            room: A buffer of `room_bytes` or more to work in; the result may be a view into it. By default new memory.
            work: Of the pass that this is a part of (`new_work`); by default one of its own.

        Raises:
            DamagedError: The chunk is damaged, or one that it is the difference from; the message names it.
            MissingBaseError: What it is the difference from is neither here nor elsewhere.
        """
        record = self.index.chunks[number]
        frames = self.stored_chunk(number, room)[CHUNK_HEADER_BYTES:]
        behind = None if room is None else memoryview(room)[align(CHUNK_HEADER_BYTES + len(frames)) :]
        try:
            # What is needed to know the bases must be there without them.
            is_front = self._raw_starts[number] < self._front[-1][1]
            read_base = None if is_front else partial(self._read_base, number, work or self.new_work())
            return decode_chunk(record, frames, behind, number=number, read_base=read_base)
        except DamagedError:
            raise
        except FormatError as error:
            raise DamagedError(f"{self.path}: {error.message}", hint=error.hint, chunk=number) from error

    def expect(self, numbers: Sequence[int]) -> AbstractContextManager[object]:
        """Prepare for reading these chunks, in that order, while the returned block runs.

        Those of an address are fetched ahead.
        """
        starts, chunks = self._stored_starts, self.index.chunks
        return self._stored.expect(
            (starts[number] - CHUNK_HEADER_BYTES, starts[number] + chunks[number].stored_bytes)
            for number in numbers
        )

    def _read_base(self, number: int, work: Work, place: BasePlace, room: memoryview) -> None:
        """Fill `room` with what a chunk is the difference from."""
        start, stop = self._raw_starts[number : number + 2]
        base = self.plan.differences.find_base(start, stop, place)
        if self.elsewhere is not None and base in self.elsewhere:
            self.elsewhere.read_into(base, place.offset, room)
        elif base in self.plan.first_of:
            self.contents.read_counted(base, place.offset, room, work)
        else:
            what = f"{self.path}: chunk {number} is stored as a difference from content {base}, which is not here"
            raise MissingBaseError(what, hint="the bundle is a delta: its base has it")

    def chunks(self, numbers: Sequence[int], *, jobs: int) -> Iterator[tuple[int, Buffer]]:
        """Yield (number, bytes) in the order of `numbers`; up to `jobs` threads decode ahead, in bounded memory.

        The bytes are valid until the next item is asked for: their memory is then reused.
        """
        with self.expect(numbers):
            yield from decode_in_order(self, numbers, jobs=jobs)

    def runs(self, wanted: Sequence[Span], *, jobs: int) -> Iterator[tuple[int, Buffer]]:
        """Yield (offset in the tar stream, bytes) of each chunk that holds some of `wanted`.

        The bytes are valid until the next item is asked for.
        """
        for number, raw in self.chunks(list(list_chunks(self, wanted)), jobs=jobs):
            yield self._raw_starts[number], raw

    def hand_out(self, wanted: Sequence[Span], prepare: Prepare, *, jobs: int) -> None:
        """Hand out the run of each chunk that holds some of `wanted` (see `bundler.format.source.Source`)."""
        numbers: Sequence[int] = list(list_chunks(self, wanted))
        # From an address chunks are fetched ahead in order. A base is best written before what is a difference from it.
        if jobs > 2 and not isinstance(self._stored, RemoteStored) and not self.bases:
            numbers = order_by_turns(self, numbers, self._spans.values(), jobs=jobs)
        with self.expect(numbers):
            hand_out(self, numbers, prepare, jobs=jobs)

    def chunk_span(self, start: int, stop: int) -> range:
        """Return the numbers of the chunks that hold bytes `start` to `stop` of the tar stream."""
        if start >= stop:
            return range(0)
        return range(bisect_right(self._raw_starts, start) - 1, bisect_right(self._raw_starts, stop - 1))

    def chunk_start(self, number: int) -> int:
        """Return the offset of a chunk in the tar stream."""
        return self._raw_starts[number]

    def read(self, start: int, size_bytes: int) -> bytes:
        """Return `size_bytes` of the tar stream from offset `start`.

        Raises:
            FormatError: The range reaches past the end, or one of its chunks is damaged.
        """
        if start < 0 or start + size_bytes > self.index.tar_bytes:
            what = f"bytes {start} to {start + size_bytes} lie outside the tar stream of {self.index.tar_bytes}"
            raise FormatError(f"{self.path}: {what}")
        room = bytearray(size_bytes)
        copy_span(self, start, memoryview(room), self._base_buffers)
        return bytes(room)

    def room_bytes(self, number: int) -> int:
        """Return how long a buffer for a chunk is: as it is stored, then its raw bytes."""
        chunk = self.index.chunks[number]
        return align(CHUNK_HEADER_BYTES + chunk.stored_bytes) + chunk.raw_bytes

    def cost_of(self, number: int) -> tuple[int, int]:
        """Return how much memory decoding a chunk takes, and how many bytes are stored for that."""
        chunk = self.index.chunks[number]
        room, stored = self.base_costs.of(number)
        return room + max(
            self.pooled_bytes, self.room_bytes(number)
        ) + chunk.raw_bytes, stored + chunk.stored_bytes

    def member_of(self, blob: Blob) -> Member:
        """Return the tar member that holds a blob's content."""
        return self.plan.first_of[blob.sha256]

    def open_blob(self, blob: Blob) -> io.BufferedReader:
        """Open a blob's content for reading and seeking; chunks are checked and decoded when they are needed."""
        member = self.member_of(blob)
        return io.BufferedReader(BlobStream(self, member.offset, member.size_bytes), buffer_size=1 << 20)
