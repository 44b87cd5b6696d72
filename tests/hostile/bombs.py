"""Files of at most a megabyte that would like to be large, slow or talkative."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import zstandard

from bundler.files.digest import blake3_bytes, sha256_bytes
from bundler.format.contents.bases import MAX_DIFFERENCE_BYTES, BasePlace, Bases, bases_record
from bundler.format.index import PREAMBLE, ChunkRecord, Index, chunk_header, index_frame
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader
from bundler.format.tar import Member, tar_plan
from bundler.plan.lock import Lock, LockedFile
from tests.fuzz.frames import runs
from tests.support.bundles import lock_of, locked_repo

MIB = 1 << 20
_CODECS = {"zstd": (0, 1), "planes2": (1, 2), "planes4": (2, 4)}


def compressed(raw: bytes) -> bytes:
    """A frame as small as zstd makes it."""
    return zstandard.ZstdCompressor(level=3, write_content_size=True).compress(raw)


def bundle_of(
    name: str, lock_text: bytes, chunks: list[tuple[int, int, bytes]], bases: Bases | None = None
) -> bytes:
    """A bundle of these chunks (codec, raw length, frames), whose digests are right."""
    records = tuple(ChunkRecord(codec, size, len(frames), blake3_bytes(frames)) for codec, size, frames in chunks)
    total = sum(record.raw_bytes for record in records)
    index = Index(name, len(lock_text), sha256_bytes(lock_text), total, records, bases=bases_record(bases or {}))
    parts = [chunk_header(record) + frames for record, (_, _, frames) in zip(records, chunks, strict=True)]
    return PREAMBLE + b"".join(parts) + index_frame(index)


def zeros(codec: str, chunk_mib: int, count: int) -> bytes:
    """A bundle of one file of zeros, as its lock says, whose digests are those of another content."""
    size = chunk_mib * MIB * count
    file = LockedFile(path="w.bin", size_bytes=size, blob_id="a" * 40, sha256="b" * 64, blake3="c" * 64)
    lock = _lock_of(file)
    plan = tar_plan(lock)
    [member] = [member for member in plan.members if member.blob]
    pieces = [header for each in plan.members if each.offset <= member.offset for header in _before(each)]
    front = b"".join(pieces)
    back = bytes(plan.size_bytes - len(front) - size)
    number, width = _CODECS[codec]
    frames = runs(chunk_mib * MIB // width) * width
    text = lock.dumps().encode()
    chunks = [(0, len(front), compressed(front)), *[(number, chunk_mib * MIB, frames)] * count]
    return bundle_of("tiny", text, [*chunks, (0, len(back), compressed(back))])


def differences(depth: int) -> bytes:
    """A bundle of zeros in chunks of 64 MiB, and of contents that are differences from it, one upon the other."""
    size, other = 64 * MIB, 2 * MAX_DIFFERENCE_BYTES
    names = [f"{number:x}" * 64 for number in range(1, depth + 2)]
    files = tuple(
        LockedFile(
            path=f"{name[0]}.bin",
            size_bytes=size if name == names[0] else other,
            blob_id=name[:40],
            sha256=name,
            blake3="c" * 64,
        )
        for name in names
    )
    lock = _lock_of(*files)
    bases = {name: (before,) for before, name in pairwise(names)}
    place, step = BasePlace(0, 0).pack(), MAX_DIFFERENCE_BYTES
    chunks: list[tuple[int, int, bytes]] = []
    between = b""
    for member in (plan := tar_plan(lock, None, bases)).members:
        between += member.header
        if member.blob is None:
            between += member.content + bytes(member.padding)
            continue
        chunks.append((0, len(between), compressed(between)))
        between = b""
        if member.blob.sha256 == names[0]:
            chunks.append((0, size, runs(size)))
        else:
            chunks += [(4, step, place + runs(step // 4) * 4)] * (other // step)
    assert sum(chunk[1] for chunk in chunks) + len(between) + 1024 == plan.size_bytes
    between += bytes(1024)
    return bundle_of("tiny", lock.encoded, [*chunks, (0, len(between), compressed(between))], bases)


def _before(member: Member) -> list[bytes]:
    return [member.header] if member.blob else [member.header, member.content, bytes(member.padding)]


def _lock_of(*files: LockedFile) -> Lock:
    return lock_of(dataclasses.replace(locked_repo("org/m", {}), files=files))


def lock_bomb(text: bytes) -> bytes:
    """A bundle whose lock is this text, however long."""
    header = tar_plan(lock_of(name="tiny")).front[0].header
    size = f"{len(text):011o}".encode()
    stream = header[:124] + size + header[135:] + text + bytes(1024 + -len(text) % 512)
    step = 4 * MIB
    parts = [stream[start : start + step] for start in range(0, len(stream), step)]
    return bundle_of("tiny", text, [(0, len(part), compressed(part)) for part in parts])


def many_chunks() -> bytes:
    """An index with as many records as fit."""
    frames = compressed(b"\0")
    return bundle_of("tiny", b"{}", [(0, 1, frames)] * 6500)


def many_volumes() -> bytes:
    """A file of volumes, each of one byte and of another bundle."""
    parts = []
    for number in range(MIB // (VOLUME_HEAD_BYTES + 1)):
        digest = number.to_bytes(32, "big")
        header = VolumeHeader(number + 1, 1 << 31, 9 + number, 1, 1 << 40, digest, blake3_bytes(b"x"))
        parts.append(header.pack() + b"x")
    return b"".join(parts)


def honest_lock(files: int) -> Lock:
    """A lock of many files of one content."""
    file = LockedFile(path="x", size_bytes=0, blob_id="e" * 40, sha256="b" * 64, blake3="c" * 64)
    named = tuple(dataclasses.replace(file, path=f"{number:06}") for number in range(files))
    return _lock_of(*named)


BUNDLES: dict[str, Callable[[], bytes]] = {
    "chunks of 64 MiB": functools.partial(zeros, "zstd", 64, 4),
    "planes of 64 MiB": functools.partial(zeros, "planes4", 64, 4),
    "planes of 4 MiB": functools.partial(zeros, "planes4", 4, 80),
    "chunks of 4 MiB": functools.partial(zeros, "zstd", 4, 80),
    "differences over differences": functools.partial(differences, 4),
    "lock of spaces": lambda: lock_bomb(b" " * (64 * MIB)),
    "lock of empty lists": lambda: lock_bomb(b"[" + b"[]," * (4 * MIB) + b"0]"),
    "lock of short lists": lambda: lock_bomb(b"[" + b"[]," * (2 * MIB) + b"0]"),
    "lock of one content": lambda: lock_bomb(honest_lock(30_000).dumps().encode()),
    "lock of short keys": lambda: lock_bomb(json.dumps({f"{n:x}": 0 for n in range(600_000)}).encode()),
    "lock of faults": lambda: lock_bomb(json.dumps({"repos": [{"files": [{"a" * 9: 1}] * 90_000}]}).encode()),
    "as many chunks as fit": many_chunks,
    "as many volumes as fit": many_volumes,
    "frames of empty blocks": lambda: bundle_of(
        "tiny", b"{}", [(1, MIB, b"\x28\xb5\x2f\xfd\xe0" + bytes(MIB - 999))]
    ),
    "zeros": lambda: bytes(MIB),
    "brackets": lambda: b"[" * MIB,
}


def text_bombs() -> dict[str, bytes]:
    """Texts of at most a megabyte, for everything that is read as YAML or JSON."""
    return {
        "brackets": b"[" * MIB,
        "empty lists": b"[" + b"[]," * (MIB // 3 - 9) + b"0]",
        "short keys": ("{" + ",".join(f'"{n:x}":0' for n in range(90_000)) + "}").encode(),
        "a key twice": ("{" + ",".join(f'"{n:x}":0' for n in range(90_000)) + ',"1":0}').encode(),
        "yaml keys": "".join(f"{n:x}: 0\n" for n in range(90_000)).encode(),
        "yaml entries": b"version: 1\nname: tiny\nmodels:\n" + b"- {}\n" * 200_000,
        "yaml rules": b"version: 1\nrules:\n" + b"- {}\n" * 200_000,
        "yaml patterns": b"version: 1\nrules:\n- bundles: [" + b"''," * 300_000 + b"]\n",
        "yaml flow": b"version: [" + b"{a: [b, c]}, " * 80_000 + b"]\n",
        "aliases": b"a: &a [x]\nb: [" + b"*a, " * 250_000 + b"]\n",
        "digits": b"1" * MIB,
        "quotes": b'"' * MIB,
        "escapes": b'"' + b"\\u202e" * (MIB // 6 - 9) + b'"',
        "one long word": b"a" * MIB,
        "nothing": bytes(MIB),
        "lines": b"\n" * MIB,
        "comments": b"#\n" * (MIB // 2),
    }


def write(path: Path, content: bytes) -> Path:
    """Write a file, which must be one of a megabyte at most."""
    assert len(content) <= MIB
    path.write_bytes(content)
    return path
