"""Read a bundle from a pipe: once, front to back, in bounded memory.

Rule book:

* chunk headers come before the chunks and describe them; the index comes last and must agree with them. Until then
  everything that was read is provisional: users of it publish nothing before `hand_out` has ended;
* the lock is the first member of the tar stream, so the reader knows what must follow;
* a stream may be the volumes of a bundle, one after the other; their headers are checked too;
* if a stream ends early, all chunks that arrived complete are handed out before the error is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from bundler.errors import DamagedError, FormatError, MissingBaseError
from bundler.files.digest import sha256_bytes
from bundler.files.parallel import call_all
from bundler.format.base_records import BaseRecord
from bundler.format.chunk import check_stored, decode_chunk
from bundler.format.codec.buffers import Flight
from bundler.format.codec.codecs import Buffer
from bundler.format.codec.expansion import check_expansion
from bundler.format.contents.bases import BasePlace, Bases, Contents, bases_record, parse_bases
from bundler.format.index import (
    CHUNK_HEADER_BYTES,
    MAX_LOCK_BYTES,
    PREAMBLE,
    ChunkRecord,
    Index,
    check_front_bytes,
    is_index_frame,
    largest_index_frame,
    parse_chunk_header,
    parse_index_frame,
)
from bundler.format.source import NeededSpans, Prepare, Span, Take
from bundler.format.storage.stream_input import Readable, StreamInput
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader, is_volume_head, parse_volume_head
from bundler.format.tar import (
    BLOCK,
    TarPlan,
    bases_path,
    lock_path,
    omitted_path,
    omitted_text,
    tar_plan,
)
from bundler.plan.lock import Lock
from bundler.remote.address import Address


class BundleStream:
    """A bundle that is read from a pipe (see `bundler.format.source.Source`).

    Args:
        stream: The pipe; it stays open.
        label: Its name for messages.
        place: The address that it comes from, if there is one.
        expected_digest: What the bundle's digest must be, if that is known; compared at the end.
        close: Called by `close`.

    Attributes:
        label: Its name for messages.
        place: The address that it comes from, if there is one.
        lock: The lock inside; provisional until `hand_out` has ended.
        omitted: The contents (sha256) that a delta leaves out; None for a whole bundle. Provisional too.
        bases: Contents (sha256) that are stored as differences -> what from. Provisional too.
        plan: What the tar stream must be according to the lock.
        elsewhere: Where contents can be read that chunks are differences from: all of them that are needed, once what
            was handed out before is dealt with.

    Raises:
        FormatError: The stream does not start as a bundle does, or ends before the end of its lock.
        LockError: The lock is malformed.
    """

    elsewhere: Contents | None = None
    is_read_once = True

    def __init__(
        self,
        stream: Readable,
        label: str = "standard input",
        *,
        place: Address | None = None,
        expected_digest: str | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.label = label
        self.place = place
        self._expected_digest, self._close = expected_digest, close
        self._input = StreamInput(stream)
        self._records: list[ChunkRecord] = []
        # Bytes read so far, of the bundle and of its tar stream.
        self._stored_bytes = len(PREAMBLE)
        self._raw_bytes = 0
        self._volume: VolumeHeader | None = None
        self._index: Index | None = None
        self._is_open = False
        # The first chunks, which were decoded to find the lock; `hand_out` hands them out.
        self._front: list[Buffer] = []
        try:
            self._start()
            self.lock, self.omitted, self.bases = self._read_front()
            self.plan: TarPlan = tar_plan(self.lock, self.omitted, self.bases)
            self._check_front()
        except FormatError as error:
            raise self._add_label(error) from error
        self._is_open = True

    @property
    def base(self) -> BaseRecord | None:
        """What a delta records about its base; known after `hand_out` has ended."""
        return self._index.base if self._index else None

    @property
    def digest(self) -> str:
        """The bundle's digest; known after `hand_out` has ended."""
        assert self._index is not None, "the index of a stream is at its end"
        return self._index.digest

    @property
    def whole_digest(self) -> str:
        """The digest that an installation has; known once `hand_out` has ended."""
        return self._index.whole_digest if self._index else self.digest

    def close(self) -> None:
        """Close what was opened for this; a pipe is the caller's."""
        self._close()

    def hand_out(self, wanted: Sequence[Span], prepare: Prepare, *, jobs: int) -> None:
        """Read the stream to its end: check all chunks; decode and hand out those that hold some of `wanted`.

        May be called once.

        Raises:
            FormatError: The stream is damaged, cut short, or does not agree with its index.
        """
        needed = NeededSpans(wanted)
        flight = Flight(jobs)

        def check(stored: tuple[int, memoryview], land: Callable[[], None]) -> None:
            self._take(*stored, start=0, decode=False)
            land()

        def decode(stored: tuple[int, memoryview], start: int, take: Take, land: Callable[[], None]) -> None:
            raw = self._take(*stored, start=start, decode=True)
            assert raw is not None, "it was decoded"
            take(raw, land)

        def calls() -> Iterator[Callable[[], None]]:
            position = 0
            while self._front and flight.wait():
                raw = self._front.pop(0)
                start, position = position, position + len(raw)
                if needed.any_of(start, position):
                    yield partial(prepare(start, position), raw, flight.take(len(raw), 0))
                del raw
            while self._index is None and flight.wait(lambda: self._has_bases(self._raw_bytes)):
                start = self._raw_bytes
                stored = self._read_next()
                if stored:
                    is_needed = needed.any_of(start, self._raw_bytes)
                    # Planes take as much again, and a base does.
                    land = flight.take(3 * is_needed * (self._raw_bytes - start), len(stored[1]))
                    if is_needed:
                        yield partial(decode, stored, start, prepare(start, self._raw_bytes), land)
                    else:
                        yield partial(check, stored, land)
                del stored  # Not kept while the next is waited for.

        try:
            call_all(calls(), jobs=jobs, name="unpack", on_failure=flight.stop)
        except FormatError as error:
            raise self._add_label(error) from error

    def _add_label(self, error: FormatError) -> FormatError:
        message = f"{self.label}: {error.message.removeprefix(f'{self.label}: ')}"
        if isinstance(error, DamagedError):
            return DamagedError(message, hint=error.hint, chunk=error.chunk)
        return FormatError(message, hint=error.hint)

    def _has_bases(self, position: int) -> bool:
        """Tell whether all that the next chunk may be a difference from is there, not still on its way to a file."""
        bases = self.plan.differences.bases_at(position, position + 1)
        return self.elsewhere is None or all(base in self.elsewhere for base in bases)

    def _take(self, number: int, frames: memoryview, *, start: int, decode: bool) -> Buffer | None:
        record = self._records[number]
        check_stored(record, frames, number=number)
        if not decode:
            return None
        read_base = partial(self._read_base, start, start + record.raw_bytes) if self._is_open else None
        return decode_chunk(record, frames, number=number, read_base=read_base)

    def _read_base(self, start: int, stop: int, place: BasePlace, room: memoryview) -> None:
        base = self.plan.differences.find_base(start, stop, place)
        if self.elsewhere is None or base not in self.elsewhere:
            raise MissingBaseError(
                f"{self.label}: content {base}, which a chunk is a difference from, is not here"
            )
        self.elsewhere.read_into(base, place.offset, room)

    def _start(self) -> None:
        head = self._input.read(len(PREAMBLE), "its first bytes")
        if head != PREAMBLE:
            raise FormatError("the first bytes are not those of a bundle")
        second = self._input.read(12, "its first chunk")
        if is_volume_head(head + second):
            self._enter_volume(head + second)
        else:
            self._input.put_back(second)

    def _enter_volume(self, head: bytes) -> None:
        """Read the rest of a volume header, and check that this volume continues where the one before ended."""
        header = parse_volume_head(head + self._input.read(VOLUME_HEAD_BYTES - len(head), "a volume header"))
        expected = self._volume.number + 1 if self._volume else 1
        if self._volume and header.bundle_sha256 != self._volume.bundle_sha256:
            raise FormatError(
                f"volume {header.number} of another bundle ({header.digest}) follows volume "
                f"{self._volume.number} of {self._volume.digest}"
            )
        if header.number != expected or header.start != self._stored_bytes:
            raise FormatError(
                f"expected volume {expected}, from byte {self._stored_bytes} of the bundle, found volume "
                f"{header.number}, from byte {header.start}",
                hint="send all volumes of one set, in the order of their numbers",
            )
        self._volume = header

    def _read_next(self) -> tuple[int, memoryview] | None:
        """Read the next chunk without checking it; return its number and frames, or None at the index."""
        what = f"chunk {len(self._records)}, or the index"
        head = self._input.read(12, what)
        if self._volume and head.startswith(PREAMBLE):
            self._enter_volume(head)
            head = self._input.read(12, what)
        if is_index_frame(head):
            if not self._is_open:
                raise FormatError("the tar stream ends before its lock does")
            self._finish(head)
            return None
        record = parse_chunk_header(head + self._input.read(CHUNK_HEADER_BYTES - len(head), what))
        frames = self._input.read_into_new(record.stored_bytes, what)
        self._records.append(record)
        self._raw_bytes += record.raw_bytes
        self._stored_bytes += CHUNK_HEADER_BYTES + record.stored_bytes
        check_expansion(self._raw_bytes, self._stored_bytes)
        if self._is_open and self._raw_bytes > self.plan.size_bytes:
            raise FormatError(f"the tar stream does not end after the {self.plan.size_bytes:,} bytes of its lock")
        return len(self._records) - 1, frames

    def _finish(self, head: bytes) -> None:
        """Read the index, and compare it with everything that was read before."""
        size = 8 + int.from_bytes(head[4:8], "little")
        limit = largest_index_frame(len(self._records), is_delta=self.omitted is not None)
        if not len(head) <= size <= limit:
            raise FormatError(f"index of {size} bytes, expected at most {limit} after {len(self._records)} chunks")
        index = parse_index_frame(head + self._input.read(size - len(head), "its index"))
        self._stored_bytes += size
        text = self.lock.encoded
        base = index.base
        omitted = None if self.omitted is None else omitted_text(self.omitted)
        faults = {
            "chunks": index.chunks == tuple(self._records),
            "lock": (index.name, index.lock_bytes, index.lock_sha256)
            == (self.lock.name, len(text), sha256_bytes(text)),
            "tar stream": index.tar_bytes == self._raw_bytes == self.plan.size_bytes,
            "list of omitted contents": (base and (base.omitted_bytes, base.omitted_sha256))
            == (None if omitted is None else (len(omitted), sha256_bytes(omitted))),
            "list of bases": index.bases == bases_record(self.bases),
            "last volume": self._volume is None
            or (self._volume.stop, self._volume.bundle_bytes, self._volume.digest)
            == (self._stored_bytes, self._stored_bytes, index.digest),
            "digest that its address promises": self._expected_digest in (None, index.digest),
        }
        if wrong := [name for name, is_right in faults.items() if not is_right]:
            raise FormatError(
                f"the index at the end does not match the stream before it: {', '.join(wrong)} differ"
            )
        if self._input.has_more():
            raise FormatError("more bytes follow the index")
        self._index = index

    def _read_front(self) -> tuple[Lock, frozenset[str] | None, Bases]:
        """Read up to the lock and, where they follow, the lists of omitted contents and of bases."""
        text, end = self._read_member(0)
        try:
            lock = Lock.loads(text.decode(), source=f"{self.label}: lock inside")
        except UnicodeDecodeError as error:
            raise FormatError(f"lock inside is not UTF-8: {error}") from error
        if lock.encoded != text:
            raise FormatError("lock inside is not in canonical form")
        omitted: frozenset[str] | None = None
        if self._is_at(end, omitted_path(lock.name)):
            text, end = self._read_member(end)
            omitted = frozenset(text.decode("ascii", "replace").split())
            if omitted_text(omitted) != text:
                raise FormatError("list of omitted contents is not in canonical form")
        bases: Bases = {}
        if self._is_at(end, bases_path(lock.name)):
            bases = parse_bases(self._read_member(end)[0])
        return lock, omitted, bases

    def _is_at(self, start: int, path: str) -> bool:
        """Tell whether the header of this member is there; it is compared with the lock later."""
        return self._read_front_bytes(start, BLOCK)[:100].rstrip(b"\0") == path.encode()

    def _check_front(self) -> None:
        for member in self.plan.front:
            header = member.header
            if self._read_front_bytes(member.offset - len(header), len(header)) != header:
                raise FormatError(
                    f"{member.path}: the tar stream is not the one that the lock inside asks for "
                    f"(expected {lock_path(self.lock.name)} first)"
                )

    def _read_member(self, start: int) -> tuple[bytes, int]:
        """Return the content of the tar member at offset `start`, and the offset of the next member."""
        header = self._read_front_bytes(start, BLOCK)
        try:
            # POSIX.1-1988, ustar: the size in octal digits at byte 124.
            size = int(header[124:136].rstrip(b"\0 "), 8)
        except ValueError:
            raise FormatError("the tar stream does not start with the lock") from None
        if not 0 <= size <= MAX_LOCK_BYTES:
            raise FormatError(f"lock of {size} bytes is over the limit of {MAX_LOCK_BYTES}")
        return self._read_front_bytes(start + BLOCK, size), start + BLOCK + size + -size % BLOCK

    def _read_front_bytes(self, start: int, size: int) -> bytes:
        """Return `size` bytes near the start of the tar stream, reading further chunks if needed."""
        while self._raw_bytes < start + size:
            stored = self._read_next()
            raw = self._take(*stored, start=0, decode=True) if stored else None
            assert raw is not None, "an index that comes before the lock is refused"
            self._front.append(raw)
            check_front_bytes(min(start + size, self._raw_bytes), self._stored_bytes)
        parts, position = [], 0
        for raw in self._front:
            if position < start + size and position + len(raw) > start:
                parts.append(bytes(memoryview(raw)[max(start - position, 0) : start + size - position]))
            position += len(raw)
        return b"".join(parts)
