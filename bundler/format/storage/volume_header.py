"""Pack and parse the header of a volume (FORMAT.md, "Volumes")."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bundler.errors import FormatError
from bundler.files.digest import blake3_bytes
from bundler.format.index import PREAMBLE, SKIPPABLE_MAGIC

VOLUME_VERSION = 1
_MAGIC = b"HFBV"
_FRAME = struct.Struct("<II4s")
_FIELDS = struct.Struct("<IIIQQQ32s32s")
_DIGEST_BYTES = 32
_FRAME_START = _FRAME.pack(SKIPPABLE_MAGIC, len(_MAGIC) + _FIELDS.size + _DIGEST_BYTES, _MAGIC)

# Bytes before a volume's part of the bundle: the preamble and the volume header.
VOLUME_HEAD_BYTES = len(PREAMBLE) + _FRAME.size + _FIELDS.size + _DIGEST_BYTES


@dataclass(frozen=True)
class VolumeHeader:
    """Which part of which bundle a volume is.

    Attributes:
        number: Its number in the set, from 1.
        count: Number of volumes in the set.
        start: Offset of its part in the bundle; the part of the first volume begins after the preamble.
        part_bytes: Length of its part.
        bundle_bytes: Length of the bundle.
        bundle_sha256: The bundle's digest.
        part_blake3: BLAKE3 of its part.
    """

    number: int
    count: int
    start: int
    part_bytes: int
    bundle_bytes: int
    bundle_sha256: bytes
    part_blake3: bytes

    @property
    def digest(self) -> str:
        """The bundle's digest, ``sha256:<hex>``."""
        return f"sha256:{self.bundle_sha256.hex()}"

    @property
    def stop(self) -> int:
        """Offset in the bundle at which its part ends."""
        return self.start + self.part_bytes

    def pack(self) -> bytes:
        """Return the first `VOLUME_HEAD_BYTES` of the volume."""
        fields = _FIELDS.pack(
            VOLUME_VERSION,
            self.number,
            self.count,
            self.start,
            self.part_bytes,
            self.bundle_bytes,
            self.bundle_sha256,
            self.part_blake3,
        )
        head = PREAMBLE + _FRAME_START + fields
        return head + blake3_bytes(head)


def is_volume_head(head: bytes) -> bool:
    """Return whether a file that starts with `head` (at least 21 bytes) is a volume."""
    return head.startswith(PREAMBLE + _FRAME_START)


def parse_volume_head(head: bytes) -> VolumeHeader:
    """Parse what `VolumeHeader.pack` returned.

    Raises:
        FormatError: The header is damaged, of another version, or contradicts itself.
    """
    if len(head) != VOLUME_HEAD_BYTES or not is_volume_head(head):
        raise FormatError("expected a volume header, found other bytes")
    if blake3_bytes(head[:-_DIGEST_BYTES]) != head[-_DIGEST_BYTES:]:
        raise FormatError("volume header is damaged", hint="copy this volume again")
    version, *fields = _FIELDS.unpack_from(head, len(PREAMBLE) + _FRAME.size)
    if version != VOLUME_VERSION:
        raise FormatError(
            f"volume has format version {version}, expected {VOLUME_VERSION}",
            hint="a newer `bundle` wrote it: install that version here",
        )
    header = VolumeHeader(*fields)
    if not 1 <= header.number <= header.count or not len(PREAMBLE) <= header.start < header.stop:
        raise FormatError("volume header contradicts itself")
    if header.stop > header.bundle_bytes or (header.stop == header.bundle_bytes) != (
        header.number == header.count
    ):
        raise FormatError("volume header contradicts itself")
    return header
