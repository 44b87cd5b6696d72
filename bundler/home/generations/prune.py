"""Delete generations that are not the current ones, and that nothing runs on."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.files.links import LostNames
from bundler.home.common.journal import REMOVED, forget_unneeded, read_move
from bundler.home.exclusive import Note, lock_home, no_note
from bundler.home.generations.retire import list_half_retired, list_retired_content, retire_generation
from bundler.home.generations.show import finish_killed
from bundler.home.home import Home
from bundler.home.installed import InstalledBundle
from bundler.home.launches import RunningLaunch, find_launches
from bundler.home.log import append_to_log, read_log
from bundler.home.receipt import receipt_path
from bundler.text.wording import counted, size


@dataclass(frozen=True)
class Pruned:
    """A generation that was deleted, or would be.

    Attributes:
        bundle: What it was.
        freed_bytes: Content that only it needed.
    """

    bundle: InstalledBundle
    freed_bytes: int


@dataclass(frozen=True)
class PruneResult:
    """What was deleted, and what was spared for a launch.

    Attributes:
        pruned: What is gone, or would be, in order.
        running: Generations that stay since a launch goes on, each with one that does.
        freed_bytes: All content that is gone, or would be.
    """

    pruned: tuple[Pruned, ...]
    running: tuple[tuple[InstalledBundle, RunningLaunch], ...]
    freed_bytes: int


def prune(
    hf_home: Path,
    names: Sequence[str] = (),
    *,
    keep: int = 0,
    older_than: datetime.timedelta | None = None,
    digests: Collection[str] | None = None,
    dry_run: bool = False,
    on_note: Note = no_note,
) -> PruneResult:
    """Delete generations that are not current; not those of a bundle whose pointer is lost, which are all it has.

    Args:
        hf_home: The cache root.
        names: Bundles to look at; default all.
        keep: How many generations of each bundle stay besides the current one, the newest.
        older_than: Spare those that were installed later than this long ago.
        digests: Spare all but these.
        dry_run: Delete nothing.
        on_note: Told what a person should know of and is no error.

    Raises:
        NotInstalledError: Something of `names` can be no bundle name.
        IntegrityError: A receipt was changed: what it needs cannot be told, and nothing is deleted.
    """
    with lock_home(hf_home, on_note=on_note):
        home = Home(hf_home)
        half = list_half_retired(home) if dry_run else []
        freed = 0 if dry_run else finish_killed(home)
        if freed:
            on_note(f"finished a removal that was killed: {size(freed)} freed")
        launches = find_launches(hf_home)
        doomed, spared = [], []
        for name in names or home.all_names():
            for bundle in _find_doomed(home, name, keep, older_than, on_note):
                if digests is not None and bundle.digest not in digests:
                    continue
                if launch := next((launch for launch in launches if launch.reads(bundle)), None):
                    spared.append((bundle, launch))
                else:
                    doomed.append(bundle)
        if dry_run:
            estimated = _estimate(home, [*half, *doomed])
            pruned = estimated[len(half) :]
            freed = sum(one.freed_bytes for one in estimated[: len(half)])
            if half:
                on_note(f"would finish a removal that was killed: {size(freed)} freed")
        else:
            pruned = []
            for bundle in doomed:
                done = _retire(home, bundle, on_note)
                if isinstance(done, RunningLaunch):
                    spared.append((bundle, done))
                else:
                    pruned.append(done)
            forget_unneeded(hf_home, home.all_names())
        return PruneResult(tuple(pruned), tuple(spared), freed + sum(one.freed_bytes for one in pruned))


def _retire(home: Home, bundle: InstalledBundle, on_note: Note) -> Pruned | RunningLaunch:
    freed = retire_generation(home, bundle)
    if isinstance(freed, RunningLaunch):
        return freed
    append_to_log(home.path, "prune", bundle.name, bundle.digest, freed_bytes=freed, on_note=on_note)
    return Pruned(bundle, freed)


def _find_doomed(
    home: Home, name: str, keep: int, older_than: datetime.timedelta | None, on_note: Note
) -> list[InstalledBundle]:
    current = home.bundle(name).digest if name in home.names() else None
    others = [bundle for bundle in home.generations(name) if bundle.digest != current]
    if current is None and others and (move := read_move(home.path, name)) != REMOVED:
        # Its pointer is lost, unless its first installation was killed.
        lost = [bundle for bundle in others if bundle.digest != move]
        others = [bundle for bundle in others if bundle.digest == move]
        if lost:
            on_note(
                f"{counted(len(lost), 'generation')} of {name} {'stays' if len(lost) == 1 else 'stay'}: its receipt "
                f"{receipt_path(home.path, name)} is lost; `bundle rollback {name} {lost[0].digest[:19]}` makes the "
                f"newest the current one again, `bundle remove {name}` gives it up"
            )
    # Of a bundle that was removed there is nothing to go back to.
    kept = keep if current else 0
    doomed = others[kept:]
    if older_than is None:
        return doomed
    latest = datetime.datetime.now(datetime.UTC) - older_than
    dates = {
        (entry.name, entry.digest): datetime.datetime.fromisoformat(entry.at)
        for entry in read_log(home.path)
        if entry.action == "install"
    }
    # What is not in the log was installed before there was one.
    return [bundle for bundle in doomed if dates.get((name, bundle.digest), latest) <= latest]


def _estimate(home: Home, doomed: Sequence[InstalledBundle]) -> list[Pruned]:
    """Return what deleting each of `doomed`, one after the other, would free."""
    gone: set[tuple[str, str]] = set()
    deleted: set[str] = set()
    lost = LostNames()
    found = []
    for bundle in doomed:
        gone.add((bundle.name, bundle.digest))
        # Listed first: what it lists goes by what was deleted before.
        paths = {*list_retired_content(home, bundle, gone=gone, deleted=deleted)} - deleted
        found.append(Pruned(bundle, sum(lost.lose(f"{home.path}/{path}") for path in paths)))
        deleted |= paths
    return found
