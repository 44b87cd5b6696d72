"""Let the shared view show the current generation of a bundle: names only, its content is there.

A move of the pointer changes names one by one. One that was killed leaves the shared view between two generations, and
a mark (`bundler.home.common.journal`); the next command that changes the home finishes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from bundler.errors import BundleError
from bundler.files.atomic import atomic_write
from bundler.files.links import replace_symlink
from bundler.files.paths import inside
from bundler.home.common.conflicts import Held, find_held
from bundler.home.common.journal import forget_move, list_moves
from bundler.home.common.publish import place_prepared, publish, publish_refs
from bundler.home.common.set_aside import clear_ways
from bundler.home.common.trees import collect_trees
from bundler.home.generations.retire import finish_retirements, hand_over_names
from bundler.home.home import Home, ignore_damage
from bundler.home.installed import InstalledBundle


def show_generation(home: Home, chosen: InstalledBundle) -> None:
    """Make all names of the shared view say what `chosen` needs, but for those that another bundle holds.

    Args:
        home: Its home, under its lock.
        chosen: A generation that is whole.
    """
    names = chosen.names
    clear_ways(home.path, names)
    held = {
        one.path for one in find_held(names, {name: other.names for name, other in home.rivals(chosen).items()})
    }
    if chosen.has_view:
        sources = {blob.sha256: inside(chosen.view, blob.path) for repo in names.repos for blob in repo.prepared}
        place_prepared(home.path, names, sources, held=held)
    if all(inside(home.path, path).exists() for repo in names.repos for path in repo.tree_paths()):
        publish_refs(home.path, names, held=held)
    else:
        # Its installation was killed before it was published.
        near = home.neighbours([names], besides=(chosen.name, chosen.digest), on_damage=ignore_damage)
        trees = collect_trees(near.layouts)
        publish(home.path, chosen.layout, symlinks=chosen.has_view, other_trees=trees, held=held)


def mend_held(hf_home: Path, held: Iterable[Held]) -> None:
    """Write refs and links that other bundles hold, and that say now what nobody needs: damage, or another tool.

    Args:
        hf_home: The cache root.
        held: All that other current bundles need otherwise than the one that is installed.
    """
    wanted: dict[str, list[str]] = {}
    for one in held:
        wanted.setdefault(one.path, [one.wanted]).append(one.value)
    for path, values in wanted.items():
        place = inside(hf_home, path)
        if "/refs/" in path:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if place.read_text() in values:
                    continue
            atomic_write(place, values[1].encode())
        elif path.count("/") == 1 and not (place.exists() and not place.is_symlink()):
            # An alias, as a link: the folder of a repo is none, and prepared files lie deeper.
            target = str(place.readlink()) if place.is_symlink() else ""
            replace_symlink(place, target if target in values else values[1])


def finish_killed(home: Home) -> int:
    """Finish what killed commands left: retirements, then moves of a pointer.

    Args:
        home: The home, under its lock.

    Returns:
        Bytes freed.
    """
    freed = finish_retirements(home)
    for name in list_moves(home.path):
        # What cannot be finished now is said by `bundle verify`, and keeps its mark.
        with contextlib.suppress(OSError, BundleError):
            _finish_move(home, name)
    return freed


def _finish_move(home: Home, name: str) -> None:
    """Let the shared view show again what the pointer says, and give other bundles what nobody else needs now."""
    current = home.bundle(name, parse=False) if name in home.names() else None
    if current is not None:
        show_generation(home, current)
    for other in home.generations(name, on_damage=ignore_damage, parse=False):
        if current is None or other.digest != current.digest:
            hand_over_names(home, other)
    if current is not None:
        forget_move(home.path, name)
