"""What a fetch would do, and how much room each stage to an installed bundle needs, told before anything is written."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from bundler.errors import BundleError
from bundler.files.digest import sha256_bytes
from bundler.files.space import Room, measure_room
from bundler.format.reader import BundleReader
from bundler.format.storage.destinations import Destination, PipeDestination
from bundler.format.storage.volume_names import volume_files
from bundler.make.cache.hub_cache import HubCache
from bundler.make.delta import Base
from bundler.make.store import Store
from bundler.plan.lock import Lock
from bundler.plan.locked_repo import LockedRepo


@dataclass(frozen=True, kw_only=True)
class RepoPlan:
    """What a fetch would do for one entry of the lock.

    Attributes:
        repo: The entry.
        files: Number of its files.
        size_bytes: Sum of their sizes.
        staged_bytes: How many of these bytes are in the store; they are not hashed for this plan.
        partial_bytes: How many of the other bytes an interrupted run left there.
        cached_bytes: How many bytes of the rest are in the HF cache, by their names; they are not hashed for this plan.
        new_files: How many files the store will have more: a content and its record for each.
    """

    repo: LockedRepo
    files: int
    size_bytes: int
    staged_bytes: int
    partial_bytes: int
    cached_bytes: int = 0
    new_files: int = 0

    @property
    def missing_bytes(self) -> int:
        """How many bytes would be downloaded."""
        return self.size_bytes - self.staged_bytes - self.partial_bytes - self.cached_bytes


def plan(lock: Lock, store: Store, cache: HubCache | None = None) -> list[RepoPlan]:
    """Return what a fetch of `lock` would do, one plan per entry; shared content counts for the first entry."""
    seen: set[str] = set()
    plans = []
    for repo in lock.repos:
        staged = partial = cached = total = new = 0
        for file in repo.files:
            if file.etag in seen:
                continue
            seen.add(file.etag)
            total += file.size_bytes
            if store.find(file.etag):
                staged += file.size_bytes
                continue
            left = store.partial_bytes(file.etag, file.size_bytes)
            new += 1 if left else 2
            if cache and cache.find(repo, file):
                cached += file.size_bytes
            else:
                partial += left
        plans.append(
            RepoPlan(
                repo=repo,
                files=len(repo.files),
                size_bytes=total,
                staged_bytes=staged,
                partial_bytes=partial,
                cached_bytes=cached,
                new_files=new,
            )
        )
    return plans


@dataclass(frozen=True, kw_only=True)
class StageBytes:
    """How many bytes a fetch of a lock, and the bundle of it, may write.

    Attributes:
        download: Of files that are not in the store, from the network or the cache.
        staging: Of datasets that have to be prepared, in the store.
        bundle: Of the bundle.
    """

    download: int
    staging: int
    bundle: int


def count_bytes(lock: Lock, plans: Sequence[RepoPlan]) -> StageBytes:
    """Return how many bytes a fetch of `lock`, and the bundle of it, may write.

    The bundle counts with the full size of its files, because the compressed size is not known yet. A dataset that
    must be prepared counts two more times: as Arrow files, and for the cache in which they are made.
    """
    unprepared = sum(repo.size_bytes for repo in lock.repos if repo.kind == "dataset" and not repo.prepared)
    # A bundle has each content once.
    prepared = sum({item.sha256: item.size_bytes for repo in lock.repos for item in repo.prepared}.values())
    return StageBytes(
        # A copy from the cache takes the same room.
        download=sum(p.missing_bytes + p.cached_bytes for p in plans),
        staging=2 * unprepared,
        bundle=sum(p.size_bytes for p in plans) + unprepared + prepared,
    )


def plan_rooms(
    lock: Lock, plans: Sequence[RepoPlan], store: Store, destination: Destination, base: Base | None
) -> tuple[Room, ...]:
    """Return the room that each stage needs at most.

    What the store has is not downloaded again, what the base has is neither packed nor installed again, and a bundle
    of this lock that stands at its destination is not written again.

    Args:
        lock: What is fetched.
        plans: What of it is missing (`plan`).
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
        return reader.index.lock_sha256 == sha256_bytes(lock.encoded) and reader.omitted == omitted
    return False
