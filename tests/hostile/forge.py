"""Makes bundles that are consistent in every digest and hostile in what they say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import zstandard

from bundler.files.digest import blake3_bytes, sha256_bytes
from bundler.format.index import PREAMBLE, ChunkRecord, Index, chunk_header, index_frame
from bundler.format.tar import END_OF_ARCHIVE, tar_plan
from bundler.plan.lock import Lock


def honest_stream(lock: Lock, contents: Iterable[bytes]) -> bytes:
    """The tar stream that the lock asks for."""
    by_digest = {sha256_bytes(content): content for content in contents}
    parts = []
    for member in tar_plan(lock).members:
        content = by_digest[member.blob.sha256] if member.blob else member.content
        parts += [member.header, content, bytes(member.padding)]
    return b"".join([*parts, END_OF_ARCHIVE])


def one_frame(raw: bytes) -> bytes:
    """What an honest writer stores for a chunk."""
    return zstandard.ZstdCompressor(write_checksum=True, write_content_size=True).compress(raw)


def forge(
    path: Path,
    *,
    name: str,
    lock_text: bytes,
    stream: bytes,
    stored: bytes | None = None,
    raw_bytes: int | None = None,
) -> Path:
    """Write a bundle of one chunk whose every digest is right, whatever it holds."""
    frames = one_frame(stream) if stored is None else stored
    record = ChunkRecord(0, len(stream) if raw_bytes is None else raw_bytes, len(frames), blake3_bytes(frames))
    index = Index(name, len(lock_text), sha256_bytes(lock_text), record.raw_bytes, (record,))
    path.write_bytes(PREAMBLE + chunk_header(record) + frames + index_frame(index))
    return path
