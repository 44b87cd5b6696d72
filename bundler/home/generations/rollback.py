"""Make another generation of a bundle the current one: a pointer, and the names of the shared view.

It is also what repairs a pointer that was lost or damaged, as long as a generation is whole.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import IntegrityError, LockError, NotInstalledError
from bundler.files.space import report_full_disk
from bundler.home.common.journal import forget_move, note_move
from bundler.home.common.set_aside import move_aside
from bundler.home.exclusive import Note, lock_home, no_note
from bundler.home.generations.adopt import adopt_generation
from bundler.home.generations.retire import hand_over_names
from bundler.home.generations.show import finish_killed, show_generation
from bundler.home.home import Home, ignore_damage
from bundler.home.installed import InstalledBundle, View
from bundler.home.log import append_to_log
from bundler.home.receipt import UnknownReceiptError, receipt_path
from bundler.home.view.view import build_view, has_no_loose_end
from bundler.home.write_receipt import set_current


@dataclass(frozen=True)
class RollbackResult:
    """What a rollback did.

    Attributes:
        bundle: The generation that is current now.
        before: The one that was, and stays; None where the pointer was lost or damaged.
    """

    bundle: InstalledBundle
    before: InstalledBundle | None


def rollback(name: str, hf_home: Path, digest: str | None = None, *, on_note: Note = no_note) -> RollbackResult:
    """Make a generation of bundle `name` the current one; nothing is deleted or written but names.

    Args:
        name: The bundle's name.
        hf_home: Where it is installed.
        digest: Which generation: its digest or the first digits of it; default the one installed before the current.
        on_note: Told what a person should know of and is no error.

    Raises:
        NotInstalledError: There is no such bundle, or not just one such generation; those that are there are named.
        IntegrityError: The generation is damaged; or the receipt of the current one is, and no digest is given.
        LockError: The receipt of the current one holds a malformed lock, and no digest is given.
        SpaceError: The file system is full; the next command that changes the home finishes the move.
    """
    full = f"{hf_home}: the file system filled up while rolling back; no content was touched"
    with (
        report_full_disk(hf_home, full, hint="free some space and run the same command again"),
        lock_home(hf_home, on_note=on_note),
    ):
        home = Home(hf_home)
        before = _open_current(home, name, digest)
        chosen = _choose(home, name, before, digest)
        finish_killed(home)
        if chosen.has_view:
            _make_view_whole(chosen)
        if before is not None and chosen.digest == before.digest:
            # Again where nothing has moved: whatever has changed the shared view, this mends.
            show_generation(home, chosen)
            return RollbackResult(before, before)
        if before is not None:
            adopt_generation(home, before, symlinks=before.has_view)
        elif (pointer := receipt_path(hf_home, name)).exists():
            place = move_aside(hf_home, pointer.relative_to(hf_home).as_posix())
            on_note(f"the damaged receipt of {name} is now {hf_home / place}")
        note_move(hf_home, name, chosen.digest)
        set_current(hf_home, name, chosen.digest, text=chosen.receipt.text)
        show_generation(home, chosen)
        if before is not None:
            hand_over_names(home, before)
        forget_move(hf_home, name)
        was = before.digest if before else None
        append_to_log(hf_home, "rollback", name, chosen.digest, before=was, on_note=on_note)
        return RollbackResult(home.bundle(name, parse=False), before)


def _open_current(home: Home, name: str, digest: str | None) -> InstalledBundle | None:
    """Return what the pointer names; None if it is lost or damaged and there are generations to choose from."""
    try:
        return home.bundle(name, parse=False)
    except UnknownReceiptError:
        raise
    except NotInstalledError:
        if name not in home.all_names():
            raise
    except (IntegrityError, LockError):
        if digest is None:
            raise
    return None


def _make_view_whole(chosen: InstalledBundle) -> None:
    """Make a view again that was copied without its links, or whose links lead nowhere.

    Raises:
        IntegrityError: By names and sizes it is not whole after that: another tool may have deleted content.
    """
    if has_no_loose_end(chosen):
        return
    view = View((chosen,), chosen.view, chosen.view / "datasets")
    if not chosen.verify(quick=True, view=view).ok:
        with contextlib.suppress(OSError):
            build_view(chosen.hf_home, chosen.name, chosen.digest, chosen.layout)
        chosen.verify(quick=True, view=view).raise_if_failed()


def _choose(home: Home, name: str, current: InstalledBundle | None, digest: str | None) -> InstalledBundle:
    generations = home.generations(name, on_damage=ignore_damage, parse=False)
    now = current.digest if current else None
    if digest is not None:
        start = digest if digest.startswith("sha256:") else f"sha256:{digest}"
        found = [bundle for bundle in generations if bundle.digest.startswith(start)]
    elif now is None:
        found = []
    else:
        place = [bundle.digest for bundle in generations].index(now)
        found = generations[place + 1 : place + 2]
    if len(found) == 1:
        return found[0]
    there = "\n".join(
        f"  {bundle.digest[:19]}{', the current one' if bundle.digest == now else ''}" for bundle in generations
    )
    wanted = f"one generation that begins with {digest!r}" if digest is not None else "an older generation"
    if digest is None and now is None:
        wanted = "a current generation, to go back from"
    raise NotInstalledError(
        f"bundle {name} in {home.path}: expected {wanted}, found {len(found)}; from new to old:\n{there}",
        hint=f"bundle rollback {name} DIGEST, with enough digits of one of these",
    )
