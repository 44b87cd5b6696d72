"""A tiny bundle of many chunks, so that a test of random access, damage or order has several to tell apart."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bundler.format import cut
from bundler.make.pack import pack
from tests.hostile.forge import honest_stream
from tests.support.bundles import blob_store, lock_of, locked_repo

CHUNK_BYTES = 4096
# Each of the two larger files has chunks of its own; the others share theirs.
FILES = {
    "large.bin": random.Random(1).randbytes(3 * CHUNK_BYTES + 7),
    "middle.bin": random.Random(2).randbytes(CHUNK_BYTES),
    "a.txt": b"text",
    "empty": b"",
}
LOCK = lock_of(locked_repo("org/m", FILES, aliases=["m"]))
# The tar stream that it decodes to, made without our writer.
STREAM = honest_stream(LOCK, FILES.values())


def cut_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writer cut chunks of `CHUNK_BYTES`, for the rest of the test."""
    monkeypatch.setattr(cut, "CHUNK_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(cut, "LARGE_BLOB_BYTES", CHUNK_BYTES)


def chunked_bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pack `FILES` into `folder/tiny.tar.zst`."""
    cut_small(monkeypatch)
    return pack(LOCK, blob_store(folder / "store", FILES.values()), folder / "tiny.tar.zst").path


def is_open(path: Path) -> bool:
    """Tell whether this process holds the file open."""
    # Whatever lists a folder holds that open too, and it is gone when its turn comes.
    return any(link.is_symlink() and link.readlink() == path for link in Path("/proc/self/fd").iterdir())
