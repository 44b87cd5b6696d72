"""Uninstall a bundle: its names and what nothing else uses, in an order that a kill cannot spoil.

The receipt is hidden first, so that the bundle is no longer listed, and deleted last: what a killed removal leaves is
found by it, and finished by the next.
"""

from __future__ import annotations

import time
from pathlib import Path

from bundler.errors import IntegrityError, LockError
from bundler.files.atomic import fsync_dir
from bundler.files.leftovers import remove_leftovers
from bundler.home.exclusive import Note, lock_home, no_note
from bundler.home.home import Home
from bundler.home.journal import (
    Found,
    clear_unfinished,
    forget_found,
    hand_on_found,
    read_found,
    restore_refs,
    unfinished_path,
)
from bundler.home.prune import prune
from bundler.home.receipt import REMOVING_SUFFIX, UnknownReceiptError, read_receipt, receipt_path
from bundler.home.set_aside import move_aside
from bundler.plan.layout import BUNDLES_FOLDER, layout
from bundler.text.wording import counted


def remove(name: str, hf_home: Path, *, on_note: Note = no_note) -> int:
    """Uninstall a bundle; what other bundles or the user's own downloads use stays.

    Args:
        name: Its name.
        hf_home: Where it is installed.
        on_note: Told what a person should know of and is no error.

    Returns:
        Bytes freed.

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


def _remove(name: str, home: Home, on_note: Note) -> int:
    hf_home = home.path
    path = receipt_path(hf_home, name)
    hidden = path.with_name(path.name + REMOVING_SUFFIX)
    if not path.exists() and not hidden.exists() and unfinished_path(hf_home, name).exists():
        remove_leftovers(path.parent, now=time.time())
        freed = clear_unfinished(hf_home, name, keep=[bundle.layout for bundle in home.bundles()])
        forget_found(hf_home, name)
        return freed
    if path.exists() or not hidden.exists():
        try:
            home.bundle(name)
        except UnknownReceiptError:
            raise
        except (IntegrityError, LockError) as error:
            place = move_aside(hf_home, f"{BUNDLES_FOLDER}/{path.name}")
            on_note(
                f"{error.message}; what it owns cannot be told. The receipt is now {place}, and the files of {name} "
                "stay: to free their room, install the bundle again and remove it then"
            )
            return 0
        # Before anything changes: what is shared with a bundle whose receipt is damaged cannot be told.
        home.bundles()
        path.replace(hidden)
        fsync_dir(path.parent)
    content = layout(read_receipt(hidden).lock)
    survivors = {bundle.name: bundle.layout for bundle in home.neighbours([content], besides=name)}
    found = read_found(hf_home, name) or Found()
    hand_on_found(hf_home, found, survivors)
    freed = prune(hf_home, content, keep=survivors.values(), stays=found.paths)
    freed += clear_unfinished(hf_home, name, keep=survivors.values())
    restore_refs(hf_home, found)
    if found.paths:
        on_note(f"left as before {name} was installed: {counted(len(found.paths), 'file')}")
    hidden.unlink()
    forget_found(hf_home, name)
    return freed
