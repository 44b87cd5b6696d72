"""Make another generation of a bundle the current one: a pointer, and the names of the shared view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.errors import NotInstalledError
from bundler.files.paths import inside
from bundler.home.common.conflicts import find_held
from bundler.home.common.publish import place_prepared, publish, publish_refs
from bundler.home.common.trees import collect_trees
from bundler.home.exclusive import Note, lock_home, no_note
from bundler.home.generations.adopt import adopt_generation
from bundler.home.generations.retire import hand_over_names
from bundler.home.home import Home, ignore_damage
from bundler.home.installed import InstalledBundle, View
from bundler.home.log import append_to_log
from bundler.home.receipt import set_current


@dataclass(frozen=True)
class RollbackResult:
    """What a rollback did.

    Attributes:
        bundle: The generation that is current now.
        before: The one that was, and stays.
    """

    bundle: InstalledBundle
    before: InstalledBundle


def rollback(name: str, hf_home: Path, digest: str | None = None, *, on_note: Note = no_note) -> RollbackResult:
    """Make a generation of bundle `name` the current one; nothing is deleted or written but names.

    Args:
        name: The bundle's name.
        hf_home: Where it is installed.
        digest: Which generation: its digest or the first digits of it; default the one installed before the current.
        on_note: Told what a person should know of and is no error.

    Raises:
        NotInstalledError: There is no such bundle, or not just one such generation; those that are there are named.
        IntegrityError: A receipt of the bundle was changed.
    """
    with lock_home(hf_home, on_note=on_note):
        home = Home(hf_home)
        before = home.bundle(name)
        chosen = _choose(home, before, digest)
        if chosen.has_view:
            # By names and sizes: another tool may have deleted what only an older generation needs.
            chosen.verify(
                quick=True, view=View((chosen,), chosen.view, chosen.view / "datasets")
            ).raise_if_failed()
        if chosen.digest != before.digest:
            adopt_generation(home, before, symlinks=before.has_view)
            set_current(hf_home, name, chosen.digest)
        # Again where nothing has moved: a rollback that was killed is finished by the next.
        _publish(home, chosen)
        if chosen.digest == before.digest:
            return RollbackResult(before, before)
        hand_over_names(home, before)
        append_to_log(hf_home, "rollback", name, chosen.digest, before=before.digest, on_note=on_note)
        return RollbackResult(home.bundle(name), before)


def _publish(home: Home, chosen: InstalledBundle) -> None:
    near = home.neighbours([chosen.layout], besides=(chosen.name, chosen.digest), on_damage=ignore_damage)
    current = {name: other.layout for name, other in near.current.items()}
    held = {one.path for one in find_held(chosen.layout, current)}
    if chosen.has_view:
        sources = {
            blob.sha256: inside(chosen.view, blob.path) for repo in chosen.layout.repos for blob in repo.prepared
        }
        place_prepared(home.path, chosen.layout, sources, held=held)
    if all(inside(home.path, path).exists() for repo in chosen.layout.repos for path in repo.tree_paths()):
        publish_refs(home.path, chosen.layout, held=held)
    else:
        # Its installation was killed before it was published.
        trees = collect_trees(near.layouts)
        publish(home.path, chosen.layout, symlinks=chosen.has_view, other_trees=trees, held=held)


def _choose(home: Home, current: InstalledBundle, digest: str | None) -> InstalledBundle:
    generations = home.generations(current.name, on_damage=ignore_damage)
    if digest is None:
        place = [bundle.digest for bundle in generations].index(current.digest)
        found = generations[place + 1 : place + 2]
    else:
        start = digest if digest.startswith("sha256:") else f"sha256:{digest}"
        found = [bundle for bundle in generations if bundle.digest.startswith(start)]
    if len(found) == 1:
        return found[0]
    there = "\n".join(
        f"  {bundle.digest[:19]}{', the current one' if bundle.digest == current.digest else ''}"
        for bundle in generations
    )
    wanted = "an older generation" if digest is None else f"one generation that begins with {digest!r}"
    raise NotInstalledError(
        f"bundle {current.name} in {home.path}: expected {wanted}, found {len(found)}; from new to old:\n{there}",
        hint=f"bundle rollback {current.name} DIGEST, with enough digits of one of these",
    )
