"""Find out what making a bundle would do: the lock, what is missing, where the bundle goes, and what stands there.

`bundle fetch --dry-run` shows this, and `bundler.make.bundle` begins with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import UsageError
from bundler.files.space import Room
from bundler.format.replaced import Replaced, find_replaced
from bundler.format.storage.destinations import Destination, PipeDestination, choose_destination
from bundler.hub.connection.endpoint import check_endpoint
from bundler.make.cache.hub_cache import HubCache
from bundler.make.delta import Base, check_base_stays
from bundler.make.lock import Locked, LockMode, lock_manifest
from bundler.make.observer import Observer
from bundler.make.room import RepoPlan, plan, plan_rooms
from bundler.make.store import Store
from bundler.plan.lockfile import lock_path
from bundler.plan.manifest import Manifest
from bundler.plan.manifest_rules import proof_problem
from bundler.remote.address import Place


@dataclass(frozen=True, kw_only=True)
class BundlePlan:
    """What `make_bundle` would do.

    Attributes:
        locked: What the manifest was resolved to.
        repos: What would be downloaded, entry by entry.
        base: What would be left out, or None.
        store: Where downloads are staged.
        cache: The HF cache from which files are taken instead.
        destination: Where the bundle goes.
        replaced: What stands there, and would be replaced; a fetch keeps the bundle itself.
        commands: Those of the user's that would run as a proof.
    """

    locked: Locked
    repos: tuple[RepoPlan, ...]
    base: Base | None
    store: Store
    cache: HubCache
    destination: Destination
    replaced: Replaced | None
    commands: tuple[str, ...]

    @property
    def download_bytes(self) -> int:
        """How many bytes would be downloaded in total."""
        return sum(repo.missing_bytes for repo in self.repos)

    def rooms(self) -> tuple[Room, ...]:
        """Return the room that each stage needs at most, and what is free now."""
        return plan_rooms(self.locked.lock, self.repos, self.store, self.destination, self.base)


def plan_bundle(
    manifest_path: Path,
    out: Path | PipeDestination | None = None,
    *,
    mode: LockMode = "reuse",
    base: Place | None = None,
    volume_bytes: int | None = None,
    store: Path | None = None,
    from_cache: Path | None = None,
    endpoint: str | None = None,
    token: str | bool | None = None,
    prove: Sequence[str] = (),
    observer: Observer | None = None,
    keep: bool = False,
) -> BundlePlan:
    """Find out what `make_bundle` with the same arguments would do; nothing is downloaded, and nothing written.

    But for files of other hosts, which are downloaded to find out what they are; with `keep` they stay in the store.

    Raises:
        BundleError: As `lock_manifest`, `Base.open` and `check_base_stays` do.
        UsageError: A command of `prove` is none.
    """
    check_endpoint()
    manifest = Manifest.load(manifest_path)
    for command in prove:
        if problem := proof_problem(command):
            raise UsageError(f"a command that proves: {problem}")
    if out is None:
        kind = "" if base is None else ".delta"
        out = Path(f"{manifest.name}{kind}.tar.zst")
    destination = choose_destination(out, volume_bytes)
    if base is not None:
        check_base_stays(base, destination, lock_path(manifest_path))
    old = Base.open(base) if base is not None else None
    staging, cache = Store(Store.default_root(store), make=False), HubCache.open(from_cache)
    locked = lock_manifest(
        manifest_path,
        mode=mode,
        endpoint=endpoint,
        token=token,
        observer=observer,
        store=staging if keep else None,
    )
    return BundlePlan(
        locked=locked,
        repos=tuple(plan(locked.lock, staging, cache)),
        cache=cache,
        base=old,
        store=staging,
        destination=destination,
        replaced=find_replaced(destination),
        commands=tuple(dict.fromkeys((*manifest.prove, *prove))),
    )
