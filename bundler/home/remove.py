"""Uninstall a bundle: its names and what nothing else uses, in an order that a kill cannot spoil.

The pointer goes first, so that the bundle is no longer listed; then each generation. A generation that a launch reads
stays until `bundle prune` finds that the launch has ended.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import IntegrityError, LockError
from bundler.files.atomic import fsync_dir
from bundler.files.leftovers import remove_leftovers
from bundler.home.common.journal import (
    REMOVED,
    clear_unfinished,
    forget_found,
    forget_move,
    note_move,
    read_found,
    unfinished_path,
)
from bundler.home.common.set_aside import move_aside
from bundler.home.exclusive import Note, lock_home, no_note
from bundler.home.generations.adopt import adopt_generation
from bundler.home.generations.prune import Pruned
from bundler.home.generations.retire import hand_over_names, retire_generation
from bundler.home.generations.show import finish_killed
from bundler.home.home import Home
from bundler.home.installed import InstalledBundle
from bundler.home.launches import RunningLaunch, find_launches
from bundler.home.log import append_to_log
from bundler.home.receipt import REMOVING_SUFFIX, UnknownReceiptError, read_receipt, receipt_path
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.layout import Layout
from bundler.text.wording import counted


@dataclass(frozen=True)
class RemoveResult:
    """What a removal did.

    Attributes:
        freed_bytes: Content that nothing else needed.
        deleted: Generations that are gone.
        running: Generations that stay since a launch goes on, each with one that does.
    """

    freed_bytes: int
    deleted: tuple[Pruned, ...] = ()
    running: tuple[tuple[InstalledBundle, RunningLaunch], ...] = ()

    @property
    def generations(self) -> int:
        """How many generations are gone."""
        return len(self.deleted)


def remove(name: str, hf_home: Path, *, on_note: Note = no_note) -> RemoveResult:
    """Uninstall a bundle; what other bundles, running launches or the user's own downloads use stays.

    Args:
        name: Its name.
        hf_home: Where it is installed.
        on_note: Told what a person should know of and is no error.

    Raises:
        NotInstalledError: There is no such bundle.
        IntegrityError: The receipt of another bundle was changed: what is shared cannot be told. Where its own was,
            that receipt is set aside, and nothing else is touched.
    """
    home = Home(hf_home)
    if not (hf_home / BUNDLES_FOLDER).is_dir():
        home.bundle(name)  # says what is there instead
    with lock_home(hf_home, on_note=on_note):
        return _remove(name, home, on_note)


def _remove(name: str, home: Home, on_note: Note) -> RemoveResult:
    hf_home = home.path
    path = receipt_path(hf_home, name)
    # What earlier versions leave of a removal that was killed.
    hidden = path.with_name(path.name + REMOVING_SUFFIX)
    remove_leftovers(path.parent, now=time.time())
    is_known = path.exists() or hidden.exists() or name in home.all_names()
    if not is_known and unfinished_path(hf_home, name).exists():
        freed = clear_unfinished(hf_home, name, keep=_list_layouts(home))
        forget_found(hf_home, name)
        append_to_log(hf_home, "remove", name, "", freed_bytes=freed, on_note=on_note)
        return RemoveResult(freed)
    if not is_known:
        home.bundle(name)  # says what is there instead
    _set_damaged_aside(name, home, on_note)
    launches = find_launches(hf_home)
    # Before anything changes: what is shared with a bundle whose receipt is damaged cannot be told.
    for other in home.all_names():
        home.generations(other)
    freed = finish_killed(home)
    # From here on its generations are not the only ones of a lost pointer, but those of a removed bundle.
    note_move(hf_home, name, REMOVED)
    current = None
    if path.exists():
        current = home.bundle(name).digest
        adopt_generation(home, home.bundle(name), symlinks=False)
        path.unlink()
        fsync_dir(path.parent)
    elif hidden.exists():
        home.trusted_users.check_file(hidden)
        adopt_generation(home, home.make_installed(read_receipt(hidden)), symlinks=False)
        hidden.unlink()
    found = read_found(hf_home, name)
    deleted: list[Pruned] = []
    spared = []
    for bundle in home.generations(name):
        done = next((launch for launch in launches if launch.reads(bundle)), None) or retire_generation(
            home, bundle
        )
        if isinstance(done, RunningLaunch):
            launch = done
            hand_over_names(home, bundle)
            spared.append((bundle, launch))
            if bundle.digest != current:
                continue
            # No longer listed, though it stays for a while.
            own = 0
        else:
            own = done
            freed += own
            deleted.append(Pruned(bundle, own))
        append_to_log(hf_home, "remove", name, bundle.digest, freed_bytes=own, on_note=on_note)
    if not deleted and not spared:
        append_to_log(hf_home, "remove", name, "", freed_bytes=freed, on_note=on_note)
    freed += clear_unfinished(hf_home, name, keep=_list_layouts(home))
    if not spared:
        forget_move(hf_home, name)
    if found and found.paths and not spared:
        on_note(f"left as before {name} was installed: {counted(len(found.paths), 'file')}")
    return RemoveResult(freed, tuple(deleted), tuple(spared))


def _set_damaged_aside(name: str, home: Home, on_note: Note) -> None:
    """Move receipts of the bundle that were changed out of the way: what they own, only another one can tell.

    Raises:
        UnknownReceiptError: One is of a newer version, which may be asked to remove it.
    """
    damaged: list[tuple[Path, str]] = []
    for path in home.receipts_of(name):
        try:
            home.read(path)
        except FileNotFoundError:
            continue
        except UnknownReceiptError:
            raise
        except (IntegrityError, LockError) as error:
            damaged.append((path, error.message))
    moved = [(move_aside(home.path, path.relative_to(home.path).as_posix()), message) for path, message in damaged]
    is_known = bool(home.generations(name))
    for place, message in moved:
        what = f"{message}. The receipt is now {place}"
        if is_known:
            on_note(f"{what}, and what it says stands in another")
        else:
            on_note(
                f"{what}, and the files of {name} stay: what it owns cannot be told. To free their room, install the "
                "bundle again and remove it then"
            )


def _list_layouts(home: Home) -> list[Layout]:
    return [bundle.layout for name in home.all_names() for bundle in home.generations(name)]
