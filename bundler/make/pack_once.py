"""Pack a bundle, unless it is already at its destination: then only hash it.

Packing is deterministic, so a bundle need not be packed twice. The store records the digest of each bundle that was
packed from it, under a key of everything that decides its bytes (`_make_key`). If the file at the destination has that
digest, and each of its chunks still has the hash in its index, it is the file that packing would write.

Rule book:

* a file that is missing, short, damaged or of another kind is packed again; it is never an error, because the purpose
  is to have the bundle at the destination;
* the record in the store is not trusted alone: the index is compared with the lock, and all bytes are hashed;
* a bundle for a pipe is packed each time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
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
from bundler.format.storage.volume_names import volume_files
from bundler.format.writer import ReadyChunks
from bundler.make.delta import Base
from bundler.make.fetch import blob_path
from bundler.make.pack import PackResult, needs_base, pack
from bundler.make.store import Store
from bundler.plan.layout import Blob
from bundler.plan.lock import Lock


@dataclass(frozen=True)
class Packed:
    """A bundle at its destination.

    Attributes:
        result: What packing returned, or would return.
        was_there: Whether it was already there, and only hashed.
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
    ready: ReadyChunks | None = None,
    progress: Callable[[int], None] = lambda count: None,
    approve: Callable[[], object] = lambda: None,
) -> Packed:
    """Bring the bundle of a complete lock, whose files are in `store`, to its destination.

    Args:
        lock: A complete lock.
        store: The store with its blobs, and with records of packed bundles.
        destination: Where to write the bundle.
        base: See `bundler.make.pack.pack`, as for the other arguments.
        codec: How to store weights.
        level: zstd level, 1 to 22.
        jobs: Number of threads; by default `available_cores()`.
        ready: What was encoded before, by the same codec and level.
        progress: Called with the number of tar-stream bytes done since the last call; with a negative number if
            the existing bundle is damaged.
        approve: Called before the bundle counts as being there; see `bundler.make.pack.pack`.

    Raises:
        IntegrityError: A blob does not match the lock.
        LockError: The lock is incomplete.
        SpaceError: The disk is full; the incomplete bundle was removed.
    """
    stored = _find_stored(base, lock, store) if base is not None and codec == "auto" else {}
    key = _make_key(lock, destination, base, stored, codec, level)
    done = _Count(progress)
    if found := _find_whole_bundle(
        store.record("packed", key), lock, destination, jobs or available_cores(), done.add
    ):
        approve()
        return Packed(found, was_there=True)
    done.add(-done.total)
    result = pack(
        lock,
        blob_path(store),
        destination,
        base=base,
        stored=stored,
        codec=codec,
        level=level,
        jobs=jobs,
        ready=ready,
        progress=progress,
        approve=approve,
    )
    parts = _list_part_bytes(destination.volumes) if isinstance(destination, VolumeDestination) else []
    if isinstance(destination, FileDestination | VolumeDestination):
        store.keep_record("packed", key, {"digest": result.digest, "parts": parts})
    return Packed(result, was_there=False)


def _find_stored(base: Base, lock: Lock, store: Store) -> dict[Blob, Path]:
    """Return the contents of a base that the lock has not, and that earlier runs left in the store: hashed again."""
    return {blob: store.path(blob.etag) for blob in base.changed_from(lock) if store.find_verified(blob.etag)}


def _make_key(
    lock: Lock,
    destination: Destination,
    base: Base | None,
    stored: Iterable[Blob],
    codec: CodecChoice,
    level: int,
) -> str:
    """Return a text that is equal only if packing writes the same bytes; it includes the encoder's version."""
    omitted = base.omitted_from(lock) if base else None
    return json.dumps(
        {
            "lock": sha256_bytes(lock.encoded),
            "base": asdict(base.record(omitted)) if base and omitted is not None else None,
            # What can be read of the base, so that new weights are stored as differences from it.
            "is_bundle": base is not None and base.bundle is not None,
            "stored": sorted(blob.sha256 for blob in stored),
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
    """Return the bundle at `destination` if it is the one in `record`, and complete; else None."""
    if not isinstance(record, dict) or not isinstance(destination, FileDestination | VolumeDestination):
        return None
    place: Path | list[Path] = destination.path
    if isinstance(destination, VolumeDestination):
        place = volume_files(destination.path)
    # If a file and volumes of one name are there, packing must remove those that were not asked for.
    if not place or destination.path.exists() == isinstance(place, list):
        return None
    try:
        with BundleReader(place) as reader:
            index = reader.index
            same = (
                reader.digest == record.get("digest")
                and index.lock_sha256 == sha256_bytes(lock.encoded)
                and _list_part_bytes(reader.volumes) == record.get("parts")
            )
            if not same or not _is_whole(reader, jobs, progress):
                return None
            if isinstance(destination, VolumeDestination):
                destination.volumes = reader.volumes
            return PackResult(
                destination.path,
                reader.size_bytes,
                index.tar_bytes,
                reader.digest,
                reader.whole_digest,
                # Of a whole bundle nothing has to be decoded.
                reader.base is not None and needs_base(reader.plan, reader.omitted, reader.bases),
            )
    except (BundleError, OSError):
        return None


def _list_part_bytes(volumes: list[Path]) -> list[int]:
    """Return how many bytes of the bundle each volume holds."""
    return [path.stat().st_size - VOLUME_HEAD_BYTES for path in volumes]


def _is_whole(reader: BundleReader, jobs: int, progress: Callable[[int], None]) -> bool:
    """Return whether each chunk's stored bytes have the hash in the index; nothing is decoded."""
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
    """Adds up progress from several threads, so that it can be subtracted again."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.total = 0
        self._progress = progress
        self._mutex = threading.Lock()

    def add(self, count: int) -> None:
        with self._mutex:
            self.total += count
            if count:
                self._progress(count)
