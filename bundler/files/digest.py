r"""Digests of files: the three that this project uses, computed in one pass over the bytes.

* `sha256`: what the Hub publishes for LFS and Xet files, and what `sha256sum` checks;
* `git_sha1`: what the Hub publishes for all other files: SHA-1 over ``blob <size>\0`` and the bytes (git's object
  format, `gitformat-loose`). SHA-1 is weak, so a file is never accepted by it alone;
* `blake3`: our own, for speed: several cores can hash one file.

No other module calls hashlib or blake3.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from blake3 import blake3

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

Algorithm = Literal["sha256", "git_sha1", "blake3"]

# Large enough to make the cost of a call small, small enough to stay in the L2 cache between two hashes.
BLOCK_BYTES = 1 << 20
# A shorter block is hashed faster than another thread can wake up.
_WORTH_A_THREAD_BYTES = 64 << 10
# Mapped pages count as this process's memory, so not too large. Smaller windows spend more time on mapping, and give
# each of many cores too little work.
_WINDOW_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Digests:
    """Hex digests of a stream or file; None for an algorithm that was not asked for.

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
        size_bytes: The length that the stream will have; git's digest begins with it.
        pool: Computes all digests of a large block but the first, while the caller computes the first.
    """

    def __init__(self, algorithms: Iterable[Algorithm], *, size_bytes: int, pool: Executor | None = None) -> None:
        self._announced = size_bytes
        self._seen = 0
        self._pool = pool
        self._hashes: dict[Algorithm, Any] = {}
        for algorithm in algorithms:
            if algorithm == "sha256":
                self._hashes[algorithm] = hashlib.sha256()
            elif algorithm == "blake3":
                self._hashes[algorithm] = blake3()
            else:
                # SHA-1 is git's choice; the Hub publishes nothing stronger for small files.
                self._hashes[algorithm] = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)

    def update(self, block: bytes | bytearray | memoryview) -> None:
        """Feed the next bytes."""
        self._seen += len(block)
        first, *others = self._hashes.values()
        waiting: list[Future[None]] = []
        if self._pool is not None and len(block) >= _WORTH_A_THREAD_BYTES:
            waiting = [self._pool.submit(digest.update, block) for digest in others]
        first.update(block)
        for future in waiting:
            future.result()
        for digest in others if not waiting else ():
            digest.update(block)

    def result(self) -> Digests:
        """Return the digests of everything fed; no `git_sha1` if the length was not `size_bytes`."""
        values: dict[str, str] = {name: digest.hexdigest() for name, digest in self._hashes.items()}
        if self._seen != self._announced:
            values.pop("git_sha1", None)
        return Digests(size_bytes=self._seen, **values)


def hash_bytes(content: bytes | memoryview, *algorithms: Algorithm) -> Digests:
    """Hash a content that is in memory; small ones take less time so than by a `Hasher`."""
    return Digests(
        len(content),
        hashlib.sha256(content).hexdigest() if "sha256" in algorithms else None,
        git_blob_sha1(content) if "git_sha1" in algorithms else None,
        blake3(content).hexdigest() if "blake3" in algorithms else None,
    )


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


def blake3_file(path: Path, *, progress: Callable[[int], None] = lambda count: None) -> Digests:
    """Hash one file with BLAKE3 on one core, reading it in bounded memory.

    Args:
        path: The file.
        progress: Called with the number of bytes hashed since the last call.

    Raises:
        OSError: The file cannot be read.
    """
    digest = blake3()
    size = 0
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
            size += count
            progress(count)
    return Digests(size_bytes=size, blake3=digest.hexdigest())


def blake3_small_file(path: str | Path, size_bytes: int) -> Digests:
    """Hash one small file with BLAKE3: all of it is read at once.

    Args:
        path: The file.
        size_bytes: Its length, as far as is known.

    Raises:
        OSError: The file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # One byte more shows whether it has grown.
        content = os.read(descriptor, size_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) != size_bytes:
        return blake3_file(Path(path))
    return Digests(size_bytes=size_bytes, blake3=blake3(content).hexdigest())


def blake3_mapped_file(
    path: Path, *, threads: int, progress: Callable[[int], None] = lambda count: None
) -> Digests:
    """Hash one file with BLAKE3 on several cores, by mmap: nothing is copied from the page cache.

    If the file is truncated meanwhile, or its disk or mount fails, the process dies of SIGBUS instead of raising. So
    `bundler.files.hash_many` calls this in a child process.

    Args:
        path: The file.
        threads: Cores to use.
        progress: Called with the number of bytes hashed since the last call.

    Raises:
        OSError: The file cannot be read or mapped.
    """
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    digest = blake3(max_threads=threads)
    with path.open("rb", buffering=0) as stream:
        descriptor = stream.fileno()
        size = os.fstat(descriptor).st_size
        for start in range(0, size, _WINDOW_BYTES):
            # Read this window and the next two ahead, so that the disk works while we hash.
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, start, 3 * _WINDOW_BYTES, os.POSIX_FADV_WILLNEED)
            count = min(_WINDOW_BYTES, size - start)
            # MAP_POPULATE waits for the disk here, in one thread. Otherwise a hashing thread would wait, and the others
            # would spin.
            with mmap.mmap(descriptor, count, flags, mmap.PROT_READ, offset=start) as window:
                digest.update(window)
            progress(count)
    return Digests(size_bytes=size, blake3=digest.hexdigest())


def sha1_name(content: bytes) -> str:
    """Return the SHA-1 of `content`, by which some libraries name files; it protects nothing."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def sha256_bytes(*parts: bytes | memoryview) -> str:
    """Return the SHA-256 of `parts`, one after the other, as 64 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def sha256_raw(content: bytes) -> bytes:
    """Return the SHA-256 of some bytes, as 32 bytes."""
    return hashlib.sha256(content).digest()


def sha512_raw(content: bytes) -> bytes:
    """Return the SHA-512 of some bytes, as 64 bytes."""
    return hashlib.sha512(content).digest()


def blake3_bytes(*parts: bytes | bytearray | memoryview) -> bytes:
    """Return the 32-byte BLAKE3 digest of `parts`, one after the other."""
    digest = blake3()
    for part in parts:
        digest.update(part)
    return digest.digest()


def git_blob_sha1(content: bytes | memoryview) -> str:
    """Return git's blob id of `content` as 40 hex digits."""
    digest = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()


def git_object_sha1(kind: Literal["tree", "commit"], content: bytes) -> str:
    """Return git's id of a tree or commit object as 40 hex digits."""
    header = f"{kind} {len(content)}".encode() + b"\0"
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
