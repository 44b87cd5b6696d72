"""Keep what is installed in a home below a size: what was launched longest ago goes first.

For homes on disks of nodes, where whatever a job needs can be installed again. A generation that a launch reads stays.
Of a bundle whose current generation goes and which has others, the one that was launched last becomes the current one.
Nothing is deleted if that would not be enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from bundler.errors import SpaceError
from bundler.home.exclusive import Note, lock_provision, no_note
from bundler.home.generations.prune import Pruned, PruneResult, prune
from bundler.home.generations.rollback import rollback
from bundler.home.home import Home
from bundler.home.installed import InstalledBundle
from bundler.home.launches import find_launches
from bundler.home.remove import remove
from bundler.home.uses import read_last_use
from bundler.plan.layout import Layout
from bundler.text.wording import size


def keep_below(hf_home: Path, limit_bytes: int, *, dry_run: bool = False, on_note: Note = no_note) -> PruneResult:
    """Delete generations until what is installed takes at most `limit_bytes`; content that several have counts once.

    Args:
        hf_home: The cache root.
        limit_bytes: The limit.
        dry_run: Delete nothing.
        on_note: Told what a person should know of and is no error.

    Raises:
        SpaceError: What launches read takes more: nothing was deleted.
        IntegrityError: A receipt was changed: what it needs cannot be told, and nothing is deleted.
    """
    with lock_provision(hf_home, on_note=on_note):
        return make_room(hf_home, limit_bytes, dry_run=dry_run, on_note=on_note)


def make_room(
    hf_home: Path,
    limit_bytes: int,
    *,
    incoming: Sequence[Layout] = (),
    spare: Collection[tuple[str, str]] = (),
    dry_run: bool = False,
    on_note: Note = no_note,
) -> PruneResult:
    """Do the same under the lock of `lock_provision`, for a launch that needs some of it.

    Args:
        hf_home: The cache root.
        limit_bytes: The limit for all that is installed, `incoming` among it.
        incoming: What is going to be installed.
        spare: (name, digest) of generations that stay, like those that a launch reads.
        dry_run: Delete nothing.
        on_note: Told what a person should know of and is no error.

    Raises:
        SpaceError: `incoming`, `spare` and what launches read take more: nothing was deleted.
        IntegrityError: A receipt was changed: what it needs cannot be told, and nothing is deleted.
    """
    home = Home(hf_home)
    generations = [bundle for name in home.all_names() for bundle in home.generations(name)]
    launches = find_launches(hf_home)
    running = tuple((bundle, launch) for launch in launches for bundle in generations if launch.reads(bundle))
    wanted = [bundle for bundle in generations if (bundle.name, bundle.digest) in spare]
    spared = [*wanted, *(bundle for bundle, _ in running)]
    if (least := _count(spared, incoming)) > limit_bytes:
        raise SpaceError(
            f"{hf_home}: expected all that is installed to fit into {size(limit_bytes)}; "
            f"{'what this launch needs and ' if incoming or wanted else ''}what launches read there take "
            f"{size(least)}; nothing was deleted",
            hint="allow more with --keep-below, or wait until those launches have ended",
        )
    stays = sorted(generations, key=read_last_use)
    doomed: list[InstalledBundle] = []
    for bundle in list(stays):
        if _count(stays, incoming) <= limit_bytes:
            break
        if bundle not in spared:
            stays.remove(bundle)
            doomed.append(bundle)
    pruned = []
    for number, bundle in enumerate(doomed):
        if dry_run:
            rest = [*stays, *doomed[number + 1 :]]
            freed = _count([*rest, bundle], incoming) - _count(rest, incoming)
        else:
            freed = _give_up(home, bundle, stays, on_note)
        pruned.append(Pruned(bundle, freed))
    return PruneResult(tuple(pruned), running if doomed else (), sum(one.freed_bytes for one in pruned))


def _count(bundles: Iterable[InstalledBundle], new: Sequence[Layout]) -> int:
    """Return the bytes that bundles take together, each content once."""
    layouts = [*(bundle.layout for bundle in bundles), *new]
    return sum({blob.path: blob.size_bytes for layout in layouts for blob in layout.blobs}.values())


def _give_up(home: Home, bundle: InstalledBundle, stays: Sequence[InstalledBundle], on_note: Note) -> int:
    """Delete a generation; return the bytes freed. One that a launch has begun to read meanwhile stays."""
    name = bundle.name
    current = home.bundle(name).digest if name in home.names() else None
    if current == bundle.digest:
        others = [other for other in stays if other.name == name]
        if not others:
            return remove(name, home.path, on_note=on_note).freed_bytes
        # They are in the order of their last launches.
        rollback(name, home.path, others[-1].digest, on_note=on_note)
        on_note(f"{others[-1].digest[:19]} is the current generation of {name} now: it was launched last")
    return prune(home.path, [name], digests={bundle.digest}, on_note=on_note).freed_bytes
