r"""Digests of files: the three that matter here, taken in one pass over the bytes.

* `sha256`: what the Hub publishes for LFS and Xet files, and what `sha256sum` checks;
* `git_sha1`: what the Hub publishes for all other files: SHA-1 over ``blob <size>\0`` and the bytes (git's object
  format, `gitformat-loose`); it identifies a file to the Hub and is never our only proof of one;
* `blake3`: ours, for speed: several cores can hash one file, and chunks can be checked alone.

No other module calls hashlib or blake3.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

from blake3 import blake3

Algorithm = Literal["sha256", "git_sha1", "blake3"]

# Large enough that the call overhead vanishes, small enough to stay in the L2 cache between two hashes.
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Digests:
    """Hex digests of one run of bytes; None where an algorithm was not asked for.

    Attributes:
        size_bytes: How many bytes were hashed.
        sha256: 64 hex digits.
        git_sha1: 40 hex digits, git's blob id.
        blake3: 64 hex digits.
    """

    size_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None
    blake3: str | None = None


class Hasher:
    """Several digests of one stream, fed block by block.

    Args:
        algorithms: Which digests to take.
        size_bytes: The length that the stream will have; git's digest needs it first.
    """

    def __init__(self, algorithms: Iterable[Algorithm], *, size_bytes: int) -> None:
        self._announced = size_bytes
        self._seen = 0
        self._hashes: dict[Algorithm, Any] = {}
        for algorithm in algorithms:
            if algorithm == "sha256":
                self._hashes[algorithm] = hashlib.sha256()
            elif algorithm == "blake3":
                self._hashes[algorithm] = blake3()
            else:
                # Git's own choice of hash; the Hub publishes nothing stronger for small files.
                self._hashes[algorithm] = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)

    def update(self, block: bytes | bytearray | memoryview) -> None:
        """Feed the next bytes."""
        self._seen += len(block)
        for digest in self._hashes.values():
            digest.update(block)

    def result(self) -> Digests:
        """Return the digests of everything fed; a `git_sha1` of a stream of another length is left out."""
        values: dict[str, str] = {name: digest.hexdigest() for name, digest in self._hashes.items()}
        if self._seen != self._announced:
            values.pop("git_sha1", None)
        return Digests(size_bytes=self._seen, **values)


def hash_stream(stream: BinaryIO, *algorithms: Algorithm, size_bytes: int) -> Digests:
    """Hash `stream` to its end in bounded memory (see `Hasher`)."""
    hasher = Hasher(algorithms, size_bytes=size_bytes)
    buffer = memoryview(bytearray(BLOCK_BYTES))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        hasher.update(buffer[:count])
    return hasher.result()


def hash_file(path: Path, *algorithms: Algorithm) -> Digests:
    """Hash a file in bounded memory.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb", buffering=0) as stream:
        return hash_stream(stream, *algorithms, size_bytes=path.stat().st_size)


def blake3_file(path: Path, *, threads: int = 1, progress: Callable[[int], None] = lambda count: None) -> Digests:
    """Hash one file with BLAKE3, on several cores.

    The file is read, not mapped: a mapped file that is truncated meanwhile, or sits on a failing network mount,
    kills the process with SIGBUS instead of raising.

    Args:
        path: The file.
        threads: Cores to use for this one file.
        progress: Called with the number of bytes hashed since the last call.

    Raises:
        OSError: The file cannot be read.
    """
    digest = blake3(max_threads=threads)
    size = 0
    with path.open("rb", buffering=0) as stream, _blocks(stream, ahead=threads > 1) as blocks:
        for block in blocks:
            digest.update(block)
            size += len(block)
            progress(len(block))
    return Digests(size_bytes=size, blake3=digest.hexdigest())


@contextlib.contextmanager
def _blocks(stream: FileIO, *, ahead: bool) -> Iterator[Iterator[memoryview]]:
    """Yield an iterator over a stream's content, each block valid until the next one is asked for.

    Args:
        stream: What to read.
        ahead: Read the next block in another thread meanwhile; copying from the page cache takes nearly as long as
            hashing does.
    """
    size_bytes = BLOCK_BYTES * (8 if ahead else 1)
    buffers = [memoryview(bytearray(size_bytes)) for _ in range(2 if ahead else 1)]
    if not ahead:
        yield (buffers[0][:count] for count in iter(lambda: stream.readinto(buffers[0]), 0))
        return
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:

        def blocks() -> Iterator[memoryview]:
            at, pending = 0, reader.submit(stream.readinto, buffers[0])
            while count := pending.result():
                pending = reader.submit(stream.readinto, buffers[1 - at])
                yield buffers[at][:count]
                at = 1 - at

        yield blocks()


def sha256_bytes(content: bytes | memoryview) -> str:
    """Return the SHA-256 of `content` as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def blake3_bytes(*parts: bytes | bytearray | memoryview) -> bytes:
    """Return the 32-byte BLAKE3 digest of `parts`, one after the other."""
    digest = blake3()
    for part in parts:
        digest.update(part)
    return digest.digest()


def git_blob_sha1(content: bytes) -> str:
    """Return git's blob id of `content` as 40 hex digits."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def git_object_sha1(kind: Literal["tree", "commit"], content: bytes) -> str:
    """Return git's id of a tree or commit object as 40 hex digits."""
    header = f"{kind} {len(content)}".encode() + b"\0"
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
