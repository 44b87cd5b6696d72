"""Pack and parse the bytes around the tar stream (FORMAT.md, "Byte layout").

These are preamble, chunk headers, index and trailer. All integers are little-endian, as in zstd itself (RFC 8878).
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from bundler.errors import FormatError
from bundler.files.digest import sha256_bytes
from bundler.format.base_records import BaseRecord, BasesRecord
from bundler.format.codec.expansion import check_expansion

# The newest version: only where content is stored as its difference from a base. A delta needs the second; any other
# bundle is written in the first, which every reader knows.
FORMAT_VERSION = 3
DELTA_VERSION = 2
FIRST_VERSION = 1

# An empty zstd frame (RFC 8878, 3.1.1): it decodes to nothing, and makes `file`, `tar` and `zstd` know the file by
# its first four bytes, which a skippable frame at the start would not.
PREAMBLE = bytes.fromhex("28b52ffd2000010000")

# One of the sixteen magic numbers of skippable frames (RFC 8878, 3.1.2), which every decoder steps over.
SKIPPABLE_MAGIC = 0x184D2A5B
_SKIPPABLE = struct.Struct("<II")
_CHUNK_MAGIC = b"HFBC"
_INDEX_MAGIC = b"HFBI"
_END_MAGIC = b"HFBUNDLE"
_RECORD = struct.Struct("<B3xII32s")
_INDEX_HEAD = struct.Struct("<4sIII")
_TRAILER = struct.Struct("<32sII8s")

CHUNK_HEADER_BYTES = _SKIPPABLE.size + len(_CHUNK_MAGIC) + _RECORD.size
TRAILER_BYTES = _TRAILER.size

# Limits for reading. They bound the memory that a hostile or damaged file can make a reader allocate, and are far above
# what a writer uses: see "Limits" in FORMAT.md.
MAX_CHUNK_RAW_BYTES = 64 << 20
MAX_INDEX_HEADER_BYTES = 1 << 20
MAX_LOCK_BYTES = 1 << 30
# Of lock or list in a short bundle: a lock's digests do not compress, so that it stores a fifth of its bytes. Only
# where files have the same content does it store less; this has room for 20,000 such files.
_SMALL_LOCK_BYTES = 8 << 20
_LOCK_RATIO = 8
# Of a bundle of 25 terabytes.
MAX_WHOLE_INDEX_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)  # There are 250,000 of them in a terabyte.
class ChunkRecord:
    """The index entry of one chunk.

    Attributes:
        codec: Number of its codec (`bundler.format.codec.codecs`).
        raw_bytes: Length of the run of the tar stream that it decodes to.
        stored_bytes: Length of its zstd frames, the chunk header not counted.
        blake3: BLAKE3 of the stored bytes: a damaged chunk is refused before it reaches a decoder.
    """

    codec: int
    raw_bytes: int
    stored_bytes: int
    blake3: bytes

    def pack(self) -> bytes:
        return _RECORD.pack(self.codec, self.raw_bytes, self.stored_bytes, self.blake3)


@dataclass(frozen=True)
class Index:
    """The table of contents.

    Attributes:
        name: The bundle's name.
        lock_bytes: Length of the lock, the content of the first tar member.
        lock_sha256: Its SHA-256, hex.
        tar_bytes: Length of the tar stream.
        chunks: One record per chunk, in order.
        base: Set in a delta bundle, None in one that is whole.
        whole: Of a delta, the index of the bundle that is whole, as it stands in that. It proves `BaseRecord.whole`:
            it has that digest, and names the lock of the delta.
        bases: Set where content is stored as its difference from a base.
    """

    name: str
    lock_bytes: int
    lock_sha256: str
    tar_bytes: int
    chunks: tuple[ChunkRecord, ...]
    base: BaseRecord | None = None
    whole: bytes = b""
    bases: BasesRecord | None = None

    @property
    def version(self) -> int:
        """The lowest version of the format that has all that is in it."""
        if self.bases is not None or _version_of(self.whole) == FORMAT_VERSION:
            return FORMAT_VERSION
        return DELTA_VERSION if self.whole else FIRST_VERSION

    def front_bytes(self) -> list[int]:
        """Return the lengths of what stands first in the tar stream: the lock, and the lists that there are."""
        lists = [self.base.omitted_bytes] if self.base else []
        return [self.lock_bytes, *lists, *([self.bases.list_bytes] if self.bases else [])]

    def raw_starts(self) -> list[int]:
        """Return the offset of each chunk in the tar stream, and as last element the stream's length."""
        return list(accumulate((chunk.raw_bytes for chunk in self.chunks), initial=0))

    def stored_starts(self) -> list[int]:
        """Return the offset in the bundle of each chunk's frames, which follow its header."""
        steps = accumulate(
            (chunk.stored_bytes + CHUNK_HEADER_BYTES for chunk in self.chunks),
            initial=len(PREAMBLE) + CHUNK_HEADER_BYTES,
        )
        return list(steps)[:-1]

    def payload(self) -> bytes:
        """Return the bytes of the index without its trailer; the bundle's digest is their SHA-256."""
        header = json.dumps(
            {
                "name": self.name,
                "lock_bytes": self.lock_bytes,
                "lock_sha256": self.lock_sha256,
                "tar_bytes": self.tar_bytes,
                **({"base": self.base.header()} if self.base else {}),
                **({"bases": asdict(self.bases)} if self.bases else {}),
            },
            sort_keys=True,
        ).encode()
        head = _INDEX_HEAD.pack(_INDEX_MAGIC, self.version, len(header), len(self.chunks))
        return head + header + b"".join(chunk.pack() for chunk in self.chunks) + self.whole

    @property
    def digest(self) -> str:
        """The bundle's digest: ``sha256:`` and the SHA-256 of the index."""
        return f"sha256:{sha256_bytes(self.payload())}"

    @property
    def whole_digest(self) -> str:
        """The digest that an installation has: of a delta that of the whole bundle, if it says it; else its own."""
        return self.base.whole if self.base and self.base.whole else self.digest


def _version_of(payload: bytes) -> int:
    """Return the version that the bytes of an index name; 0 where they are too short to be one."""
    return int.from_bytes(payload[4:8], "little")


def check_front_bytes(size_bytes: int, bundle_bytes: int) -> None:
    """Make sure that a short bundle does not unpack to a lock, or a list beside it, that fills the memory.

    Args:
        size_bytes: Length of the lock or list, or of what was read of it.
        bundle_bytes: Length of the bundle, or of what was read of it.

    Raises:
        FormatError: It is longer than a writer's would be.
    """
    if size_bytes > (limit := _SMALL_LOCK_BYTES + _LOCK_RATIO * bundle_bytes):
        raise FormatError(
            f"lock or list of {size_bytes:,} bytes, expected at most {limit:,} in {bundle_bytes:,} bytes of a bundle"
        )


def chunk_header(record: ChunkRecord) -> bytes:
    """Return the skippable frame that stands before a chunk's frames."""
    payload = _CHUNK_MAGIC + record.pack()
    return _SKIPPABLE.pack(SKIPPABLE_MAGIC, len(payload)) + payload


def parse_chunk_header(header: bytes) -> ChunkRecord:
    """Parse what `chunk_header` wrote.

    Raises:
        FormatError: It is not a chunk header, or exceeds a limit.
    """
    if len(header) != CHUNK_HEADER_BYTES or header[: _SKIPPABLE.size + 4] != (
        _SKIPPABLE.pack(SKIPPABLE_MAGIC, len(_CHUNK_MAGIC) + _RECORD.size) + _CHUNK_MAGIC
    ):
        raise FormatError("expected a chunk header, found other bytes")
    record = ChunkRecord(*_RECORD.unpack(header[_SKIPPABLE.size + 4 :]))
    _check_record(record)
    if chunk_header(record) != header:
        raise FormatError("chunk header has bits set that this version does not know")
    return record


def index_frame(index: Index) -> bytes:
    """Return the skippable frame that ends a bundle."""
    payload = index.payload()
    size = len(payload) + TRAILER_BYTES
    trailer = _TRAILER.pack(bytes.fromhex(sha256_bytes(payload)), size, index.version, _END_MAGIC)
    return _SKIPPABLE.pack(SKIPPABLE_MAGIC, size) + payload + trailer


def is_index_frame(head: bytes) -> bool:
    """Return whether a skippable frame that starts with `head` (at least 12 bytes) is an index."""
    return head[_SKIPPABLE.size :].startswith(_INDEX_MAGIC)


def largest_index_frame(chunks: int, *, is_delta: bool) -> int:
    """Return how long the index frame of a bundle with so many chunks can be."""
    fixed = _SKIPPABLE.size + _INDEX_HEAD.size + MAX_INDEX_HEADER_BYTES + TRAILER_BYTES
    return fixed + _RECORD.size * chunks + (MAX_WHOLE_INDEX_BYTES if is_delta else 0)


def index_frame_bytes(trailer: bytes) -> int:
    """Return the length in bytes of the index frame that ends in `trailer`, the last `TRAILER_BYTES` of a bundle.

    Raises:
        FormatError: The trailer is not that of a bundle, or is of another version.
    """
    if len(trailer) < TRAILER_BYTES or trailer[-8:] != _END_MAGIC:
        raise FormatError(
            "expected a bundle to end in its index, found other bytes: it was cut short, or something was added",
            hint="copy it again and compare sizes",
        )
    _, size, version, _ = _TRAILER.unpack(trailer)
    if not FIRST_VERSION <= version <= FORMAT_VERSION:
        raise FormatError(
            f"bundle has format version {version}, expected {FIRST_VERSION} to {FORMAT_VERSION}",
            hint="a newer `bundle` wrote it: install that version here",
        )
    if size < _INDEX_HEAD.size + TRAILER_BYTES:
        raise FormatError(f"index of {size} bytes is too short to be one")
    return int(_SKIPPABLE.size + size)


def parse_index_frame(frame: bytes) -> Index:
    """Parse what `index_frame` wrote.

    Raises:
        FormatError: The index is damaged or malformed.
    """
    payload, trailer = frame[_SKIPPABLE.size : -TRAILER_BYTES], frame[-TRAILER_BYTES:]
    if index_frame_bytes(trailer) != len(frame) or frame[: _SKIPPABLE.size] != _SKIPPABLE.pack(
        SKIPPABLE_MAGIC, len(frame) - _SKIPPABLE.size
    ):
        raise FormatError("index frame is damaged: its two lengths disagree")
    expected, found = trailer[:32].hex(), sha256_bytes(payload)
    if expected != found:
        raise FormatError(
            f"index is damaged: expected sha256 {expected}, found {found}", hint="copy the bundle again"
        )
    index = _parse_payload(payload)
    if index.version != _TRAILER.unpack(trailer)[2]:
        raise FormatError("index is malformed: its two versions disagree")
    if index.base is not None and index.base.whole is not None:
        _check_whole(index, index.base.whole)
    return index


def _parse_payload(payload: bytes) -> Index:
    magic, version, header_bytes, count = _INDEX_HEAD.unpack_from(payload)
    end = _INDEX_HEAD.size + header_bytes + count * _RECORD.size
    if magic != _INDEX_MAGIC or end > len(payload) or (version == FIRST_VERSION and end < len(payload)):
        raise FormatError("index is malformed: its parts do not add up")
    if header_bytes > MAX_INDEX_HEADER_BYTES:
        raise FormatError(f"index header of {header_bytes} bytes is over the limit of {MAX_INDEX_HEADER_BYTES}")
    if len(payload) - end > MAX_WHOLE_INDEX_BYTES:
        raise FormatError(
            f"index of the whole bundle, {len(payload) - end} bytes, is over the limit of {MAX_WHOLE_INDEX_BYTES}"
        )
    records = payload[_INDEX_HEAD.size + header_bytes : end]
    chunks = tuple(ChunkRecord(*fields) for fields in _RECORD.iter_unpack(records))
    header = payload[_INDEX_HEAD.size : _INDEX_HEAD.size + header_bytes]
    index = _parse_header(header, chunks, payload[end:])
    # Its version too: that of a whole bundle is the first.
    if index.payload() != payload or bool(index.whole) != bool(index.base and index.base.whole is not None):
        raise FormatError("index is malformed: it is not in canonical form")
    raw, stored = 0, len(PREAMBLE)
    for record in chunks:
        _check_record(record)
        raw, stored = raw + record.raw_bytes, stored + CHUNK_HEADER_BYTES + record.stored_bytes
        check_expansion(raw, stored)
    if raw != index.tar_bytes:
        raise FormatError("index is malformed: its chunks do not add up to the tar stream")
    return index


def _check_whole(index: Index, digest: str) -> None:
    """Make sure that the digest of the whole bundle, which a delta claims, is that of a bundle with this very lock."""
    if (found := f"sha256:{sha256_bytes(index.whole)}") != digest:
        raise FormatError(f"index of the whole bundle is {found}, the delta says {digest}")
    if len(index.whole) < _INDEX_HEAD.size:
        raise FormatError("index of the whole bundle is too short to be one")
    whole = _parse_payload(index.whole)
    same = (whole.name, whole.lock_bytes, whole.lock_sha256) == (index.name, index.lock_bytes, index.lock_sha256)
    if whole.base is not None or not same:
        raise FormatError(
            f"delta claims to lead to {digest}, which is another bundle: {whole.name} with lock {whole.lock_sha256}",
            hint="it was tampered with, or made by a faulty program: do not use it",
        )


def _parse_header(text: bytes, chunks: tuple[ChunkRecord, ...], whole: bytes) -> Index:
    try:
        raw: Any = json.loads(text)
        base = BaseRecord(**raw.pop("base")) if "base" in raw else None
        bases = BasesRecord(**raw.pop("bases")) if "bases" in raw else None
        index = Index(**raw, chunks=chunks, base=base, whole=whole, bases=bases)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"index header is malformed: {error}") from error
    integers = [index.lock_bytes, index.tar_bytes]
    strings = [index.name, index.lock_sha256]
    if base is not None:
        integers.append(base.omitted_bytes)
        strings += [base.name, base.omitted_sha256, base.digest or "", base.whole or ""]
    if bases is not None:
        integers.append(bases.list_bytes)
        strings.append(bases.list_sha256)
    if not all(type(i) is int and i >= 0 for i in integers) or not all(isinstance(s, str) for s in strings):
        raise FormatError("index header is malformed: a value has the wrong type")
    for name, size in (
        ("lock", index.lock_bytes),
        ("list of omitted contents", base.omitted_bytes if base else 0),
        ("list of bases", bases.list_bytes if bases else 0),
    ):
        if size > MAX_LOCK_BYTES:
            raise FormatError(f"{name} of {size} bytes is over the limit of {MAX_LOCK_BYTES}")
    return index


def _check_record(record: ChunkRecord) -> None:
    if not 0 < record.raw_bytes <= MAX_CHUNK_RAW_BYTES:
        raise FormatError(f"chunk of {record.raw_bytes} bytes is outside the limit of {MAX_CHUNK_RAW_BYTES}")
    # In the worst case zstd adds raw/256 and a few bytes; a codec may split a chunk into several frames.
    if record.stored_bytes > record.raw_bytes + record.raw_bytes // 128 + 1024:
        raise FormatError(
            f"chunk stores {record.stored_bytes} bytes for {record.raw_bytes}, more than any writer would"
        )
