"""Pack, unless the bundle is there already: then it is hashed and left as it is.

Packing is deterministic, so a bundle once packed need not be packed again. The store remembers the digest of each
bundle that it was the source of, by everything that decides its bytes (`_key`). If the file at the destination has
that digest and each of its chunks still has the hash that its index names, it is what packing would write.

Rule book:

* anything amiss, a file that is gone, short, damaged or of another kind, means packing anew, never an error: the
  destination is to hold the bundle in the end;
* a bundle is never taken on the word of the store alone: its index is compared with the lock, its bytes are hashed;
* a pipe takes the bundle each time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import zstandard

from bundler import __version__
from bundler.errors import BundleError
from bundler.files.digest import sha256_bytes
from bundler.files.parallel import available_cores
from bundler.format.codec.codecs import DEFAULT_LEVEL, CodecChoice
from bundler.format.index import FORMAT_VERSION
from bundler.format.reader import BundleReader
from bundler.format.storage.destinations import Destination, FileDestination, VolumeDestination
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES
from bundler.format.storage.volumes import volume_files
from bundler.make.delta import Base
from bundler.make.fetch import blob_path
from bundler.make.pack import PackResult, pack
from bundler.make.store import Store
from bundler.plan.lock import Lock


@dataclass(frozen=True)
class Packed:
    """A bundle at its destination.

    Attributes:
        result: What packing gave, or would give.
        was_there: Whether it was there already, and only hashed.
    """

    result: PackResult
    was_there: bool


def pack_once(
    lock: Lock,
    store: Store,
    destination: Destination,
    *,
    base: Base | None = None,
    codec: CodecChoice = "auto",
    level: int = DEFAULT_LEVEL,
    jobs: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Packed:
    """Bring the bundle of a complete lock, whose files are in `store`, to its destination.

    Args:
        lock: A complete lock.
        store: Where its blobs are, and where it is remembered what was packed.
        destination: Where the bundle goes.
        base: See `bundler.make.pack.pack`, as for the other arguments.
        codec: How weights are stored.
        level: zstd level.
        jobs: Threads.
        progress: Called with the number of tar-stream bytes done since the last call; with a negative one when
            a bundle that is there turns out to be damaged.

    Raises:
        IntegrityError: A blob is not what the lock names.
        LockError: The lock is incomplete.
        SpaceError: The disk filled up.
    """
    key = _key(lock, destination, base, codec, level)
    done = _Count(progress)
    if found := _find_whole_bundle(
        store.record("packed", key), lock, destination, jobs or available_cores(), done.add
    ):
        return Packed(found, was_there=True)
    done.add(-done.total)
    result = pack(
        lock, blob_path(store), destination, base=base, codec=codec, level=level, jobs=jobs, progress=progress
    )
    parts = _parts(destination.volumes) if isinstance(destination, VolumeDestination) else []
    if isinstance(destination, FileDestination | VolumeDestination):
        store.keep_record("packed", key, {"digest": result.digest, "parts": parts})
    return Packed(result, was_there=False)


def _key(lock: Lock, destination: Destination, base: Base | None, codec: CodecChoice, level: int) -> str:
    """Return text that is equal only when packing gives equal files: another encoder may give other bytes."""
    omitted = base.omitted_from(lock) if base else None
    return json.dumps(
        {
            "lock": sha256_bytes(lock.dumps().encode()),
            "base": asdict(base.record(omitted)) if base and omitted is not None else None,
            "codec": codec,
            "level": level,
            "volume_bytes": destination.limit_bytes if isinstance(destination, VolumeDestination) else None,
            "format": FORMAT_VERSION,
            "encoder": [__version__, zstandard.__version__, list(zstandard.ZSTD_VERSION)],
        },
        sort_keys=True,
    )


def _find_whole_bundle(
    record: object, lock: Lock, destination: Destination, jobs: int, progress: Callable[[int], None]
) -> PackResult | None:
    """Return the bundle at `destination` if it is the one of `record`, and whole."""
    if not isinstance(record, dict) or not isinstance(destination, FileDestination | VolumeDestination):
        return None
    place: Path | list[Path] = destination.path
    if isinstance(destination, VolumeDestination):
        place = volume_files(destination.path)
    # Of a file and volumes of one name, packing leaves only what was asked for.
    if not place or destination.path.exists() == isinstance(place, list):
        return None
    try:
        with BundleReader(place) as reader:
            index = reader.index
            same = (
                reader.digest == record.get("digest")
                and index.lock_sha256 == sha256_bytes(lock.dumps().encode())
                and _parts(reader.volumes) == record.get("parts")
            )
            if not same or not _is_whole(reader, jobs, progress):
                return None
            if isinstance(destination, VolumeDestination):
                destination.volumes = reader.volumes
            return PackResult(destination.path, reader.size_bytes, index.tar_bytes, reader.digest)
    except (BundleError, OSError):
        return None


def _parts(volumes: list[Path]) -> list[int]:
    """Return how much of the bundle each volume holds."""
    return [path.stat().st_size - VOLUME_HEAD_BYTES for path in volumes]


def _is_whole(reader: BundleReader, jobs: int, progress: Callable[[int], None]) -> bool:
    """Compare each chunk's stored bytes with the hash in the index; nothing is decoded."""
    chunks = reader.index.chunks
    damaged = threading.Event()

    def compare(first: int) -> None:
        for number in range(first, len(chunks), jobs):
            if damaged.is_set():
                return
            try:
                reader.stored_chunk(number)
            except (BundleError, OSError):
                damaged.set()
            else:
                progress(chunks[number].raw_bytes)

    with ThreadPoolExecutor(jobs, thread_name_prefix="hash") as pool:
        list(pool.map(compare, range(jobs)))
    return not damaged.is_set()


class _Count:
    """Adds up progress from several threads, so that it can be taken back."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.total = 0
        self._progress = progress
        self._mutex = threading.Lock()

    def add(self, count: int) -> None:
        with self._mutex:
            self.total += count
            if count:
                self._progress(count)
