"""How much room each stage from the Hub to an installed bundle needs, told before anything is written."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from bundler.errors import BundleError
from bundler.files.digest import sha256_bytes
from bundler.files.space import Room, measure_room
from bundler.format.reader import BundleReader
from bundler.format.storage.destinations import Destination, PipeDestination
from bundler.format.storage.volumes import volume_files
from bundler.make.delta import Base
from bundler.make.fetch import RepoPlan, count_bytes
from bundler.make.store import Store
from bundler.plan.lock import Lock


def plan_rooms(
    lock: Lock, plans: Sequence[RepoPlan], store: Store, destination: Destination, base: Base | None
) -> tuple[Room, ...]:
    """Return the room that each stage needs at most.

    What the store has is not downloaded again, what the base has is neither packed nor installed again, and a bundle
    of this lock that stands at its destination is not written again.

    Args:
        lock: What is fetched.
        plans: What of it is missing (`bundler.make.fetch.plan`).
        store: Where downloads are staged.
        destination: Where the bundle goes.
        base: Of a delta, what the other side has.
    """
    counts = count_bytes(lock, plans)
    carried = counts.bundle - (_known_bytes(lock, store, base) if base else 0)
    folder = None if isinstance(destination, PipeDestination) else destination.path.absolute().parent
    return (
        measure_room("download", store.root, counts.download),
        measure_room("staging", store.root, counts.staging),
        measure_room("bundle", folder, 0 if _is_there(lock, destination, base) else carried),
        measure_room("installed", None, carried),
    )


def _known_bytes(lock: Lock, store: Store, base: Base) -> int:
    """Return the sizes of contents that the base has, as far as their SHA-256 is known before a download."""
    known: dict[str, int] = {}
    for repo in lock.repos:
        for file in repo.files:
            stored = store.find(file.etag)
            sha256 = file.sha256 or file.lfs_sha256 or (stored.sha256 if stored else None)
            if sha256 in base.contents:
                known[file.etag] = file.size_bytes
        known |= {item.sha256: item.size_bytes for item in repo.prepared if item.sha256 in base.contents}
    return sum(known.values())


def _is_there(lock: Lock, destination: Destination, base: Base | None) -> bool:
    """Tell by its index whether a bundle of this lock stands there; a fetch would hash it too."""
    place = volume_files(destination.path) or destination.path
    with contextlib.suppress(BundleError, OSError), BundleReader(place) as reader:
        omitted = base.omitted_from(lock) if base and lock.is_complete else None
        return reader.index.lock_sha256 == sha256_bytes(lock.dumps().encode()) and reader.omitted == omitted
    return False
