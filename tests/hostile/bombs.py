"""Files of at most a megabyte that would like to be large, slow or talkative."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import random
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import zstandard

from bundler.files.digest import blake3_bytes, sha256_bytes
from bundler.format.codec.frames import stored_frame
from bundler.format.contents.bases import MAX_DIFFERENCE_BYTES, BasePlace, Bases, bases_record
from bundler.format.index import PREAMBLE, ChunkRecord, Index, chunk_header, index_frame
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader
from bundler.format.tar import END_OF_ARCHIVE, tar_plan
from bundler.plan.lock import Card, Lock, LockedFile
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


Chunks = list[tuple[int, int, bytes]]


def lay_out(lock: Lock, contents: Mapping[str, Chunks], bases: Bases | None = None) -> bytes:
    """A bundle of this lock, whose contents (SHA-256) are in these chunks; all else in it is right."""
    chunks: Chunks = []
    between = b""
    for member in tar_plan(lock, None, bases or {}).members:
        between += member.header
        if member.blob is None:
            between += member.content + bytes(member.padding)
            continue
        chunks += [(0, len(between), compressed(between)), *contents[member.blob.sha256]]
        assert sum(size for _, size, _ in contents[member.blob.sha256]) == member.size_bytes
        between = bytes(member.padding)
    between += END_OF_ARCHIVE
    return bundle_of("tiny", lock.encoded, [*chunks, (0, len(between), compressed(between))], bases)


def _hold(files: Mapping[str, Chunks], bases: Bases | None = None) -> bytes:
    """A bundle of files whose names are their digests', in this order."""
    locked = tuple(
        LockedFile(
            path=f"{name[0]}.bin",
            size_bytes=sum(size for _, size, _ in chunks),
            blob_id=name[:40],
            sha256=name,
            blake3="c" * 64,
        )
        for name, chunks in files.items()
    )
    return lay_out(_lock_of(*locked), files, bases)


def _noise(size: int) -> Chunks:
    """Content that takes its own length, so that more is allowed behind it."""
    return [(0, size, stored_frame(random.Random(size).randbytes(size)))] if size else []


def zeros(codec: str, chunk_mib: int, count: int, *, noise: int = 0) -> bytes:
    """A bundle of a file of zeros, as its lock says, whose digests are those of another content."""
    number, width = _CODECS[codec]
    frames = runs(chunk_mib * MIB // width) * width
    first = {"0" * 64: _noise(noise)} if noise else {}
    return _hold({**first, "2" * 64: [(number, chunk_mib * MIB, frames)] * count})


def right_but_the_last() -> bytes:
    """As many zeros as a bundle may hold, whose digests are right, and then a content with another's."""
    contents = [bytes(64 * MIB - number) for number in range(6)]
    least = min(map(sha256_bytes, contents))
    # Contents stand by their digests, and more is allowed behind what takes its own length.
    noises = (random.Random(seed).randbytes(960_000) for seed in itertools.count())
    noise = next(one for one in noises if sha256_bytes(one) < least)
    right = locked_repo("org/m", {f"{number}.bin": content for number, content in enumerate([noise, *contents])})
    last = dataclasses.replace(right.files[0], path="z.bin", size_bytes=1, blob_id="f" * 40, sha256="f" * 64)
    files: dict[str, Chunks] = {sha256_bytes(one): [(0, len(one), compressed(one))] for one in contents}
    files[sha256_bytes(noise)] = [(0, len(noise), stored_frame(noise))]
    files[last.sha256 or ""] = [(0, 1, compressed(b"z"))]
    return lay_out(lock_of(dataclasses.replace(right, files=(*right.files, last))), files)


def differences(
    depth: int, *, base_chunk: int, step: int, count: int, codec: str = "zstd", base_mib: int = 64, noise: int = 0
) -> bytes:
    """A bundle of zeros, and of contents that are differences from it, one upon the other, in so many chunks each."""
    size, other = base_mib * MIB, max(MIB, step * count)
    names = [f"{number:x}" * 64 for number in range(1, depth + 2)]
    number, width = _CODECS[codec]
    of_base = [(number, base_chunk, runs(base_chunk // width) * width)] * (size // base_chunk)
    short: Chunks = [(4, step, BasePlace(0, 0).pack() + runs(step // 4) * 4)] * count
    left = other - step * count
    files: dict[str, Chunks] = {"0" * 64: _noise(noise)} if noise else {}
    files[names[0]] = of_base
    for name in names[1:]:
        files[name] = [*short, (0, left, runs(left))] if left else short
    return _hold(files, {name: (before,) for before, name in pairwise(names)})


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


def lock_of_repos(count: int) -> Lock:
    """A lock of many repos, each of one file of one content."""
    [repo] = honest_lock(1).repos
    return lock_of(*(dataclasses.replace(repo, repo_id=f"org/{number:06}") for number in range(count)))


def lock_of_names(count: int) -> Lock:
    """A lock of a repo whose card names many licences and origins."""
    [repo] = honest_lock(1).repos
    names = tuple(f"organisation/name-{number:06}" for number in range(count))
    card = Card(licenses=names, base_models=names, datasets=names)
    return lock_of(dataclasses.replace(repo, aliases=names, card=card))


BUNDLES: dict[str, Callable[[], bytes]] = {
    "chunks of 64 MiB": functools.partial(zeros, "zstd", 64, 4),
    "planes of 64 MiB": functools.partial(zeros, "planes4", 64, 4),
    "planes of 4 MiB": functools.partial(zeros, "planes4", 4, 80),
    "chunks of 4 MiB": functools.partial(zeros, "zstd", 4, 80),
    "as many zeros as it may hold": functools.partial(zeros, "planes4", 4, 110, noise=900_000),
    "as many zeros as it may hold, in long chunks": functools.partial(zeros, "planes4", 64, 7, noise=960_000),
    "as many differences as it may hold": functools.partial(
        differences, 4, base_chunk=8 * MIB, step=8 * MIB, count=12, codec="planes4", base_mib=8, noise=960_000
    ),
    "short differences, as many as it may hold": functools.partial(
        differences, 4, base_chunk=8 * MIB, step=4096, count=700, codec="planes4", base_mib=8, noise=400_000
    ),
    "right in all but the last": right_but_the_last,
    "30 GB of zeros": functools.partial(zeros, "zstd", 64, 450),
    "planes of 30 GB": functools.partial(zeros, "planes4", 64, 450),
    "differences from chunks of 64 MiB": functools.partial(
        differences, 4, base_chunk=64 * MIB, step=MAX_DIFFERENCE_BYTES, count=2
    ),
    "differences over differences": functools.partial(
        differences, 4, base_chunk=8 * MIB, step=MAX_DIFFERENCE_BYTES, count=2, codec="planes4"
    ),
    "short differences from long chunks": functools.partial(
        differences, 1, base_chunk=8 * MIB, step=256, count=4000, codec="planes4"
    ),
    "short differences from short differences": functools.partial(
        differences, 4, base_chunk=8 * MIB, step=1024, count=1000, codec="planes4"
    ),
    "lock of spaces": lambda: lock_bomb(b" " * (64 * MIB)),
    "lock of empty lists": lambda: lock_bomb(b"[" + b"[]," * (4 * MIB) + b"0]"),
    "lock of short lists": lambda: lock_bomb(b"[" + b"[]," * (2 * MIB) + b"0]"),
    "lock of one content": lambda: lock_bomb(honest_lock(30_000).dumps().encode()),
    "lock of many repos": lambda: lock_bomb(lock_of_repos(16_000).dumps().encode()),
    "lock of many names": lambda: lock_bomb(lock_of_names(50_000).dumps().encode()),
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
