"""Verify a single volume without the others: its bytes against the digest in its header."""

from __future__ import annotations

from bundler.files.digest import Hasher
from bundler.format.storage.stored import OneFile, OpenFile
from bundler.format.storage.volumes import Volume
from bundler.verify.report import Fault, Progress, Report, no_progress

_BLOCK_BYTES = 4 << 20


def verify_volume(volume: Volume, *, open_file: OpenFile = OneFile, progress: Progress = no_progress) -> Report:
    """Check every byte of a volume.

    This finds damage. Whether the bytes are those that the bundle's index names, only the whole set can show.

    Args:
        volume: The volume; its header was checked before.
        open_file: Opens it.
        progress: Called with the number of bytes hashed since the last call.

    Raises:
        FormatError: The file cannot be read.
    """
    header = volume.header
    hasher = Hasher(("blake3",), size_bytes=header.part_bytes)
    stored = open_file(volume.path)
    faults = []
    try:
        end = volume.offset + header.part_bytes
        for position in range(volume.offset, end, _BLOCK_BYTES):
            block = stored.read_at(position, min(_BLOCK_BYTES, end - position))
            hasher.update(block)
            progress(len(block))
    finally:
        stored.close()
    found = hasher.result().blake3
    if found != header.part_blake3.hex():
        detail = f"expected blake3 {header.part_blake3.hex()}, found {found}; copy this volume again"
        faults.append(Fault("changed", str(volume.path), detail))
    return Report(
        subject=f"{volume.path}, volume {header.number} of {header.count}, alone",
        digest=header.digest,
        files=1,
        size_bytes=header.part_bytes,
        faults=tuple(faults),
    )
