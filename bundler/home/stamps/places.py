"""Where stamps stand, and whose are believed.

Rule book:

* a user's own stand in ``$XDG_STATE_HOME/bundle/stamps/HOME/NAME-DIGEST.json``, in folders that only he can enter;
* those of a home stand beside the receipt, ``bundles/generations/NAME/DIGEST.stamps``: whoever installs or verifies as
  root or the home's owner writes them, under the lock of the home. Others believe them only if the file belongs to
  root or the home's owner, and nobody else can write to it. Members of a group that may write to the home can
  install there, and yet each user hashes what they installed himself;
* a file that is damaged, or a link, or that others may write to, is no error: a note says so, and content is hashed;
* of two the one that was taken later counts. Whoever finds damage that stamps did not tell takes new ones.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from bundler.files.atomic import atomic_writer
from bundler.files.digest import sha256_bytes
from bundler.home.generation import generation_path, short_digest, stamps_path
from bundler.home.installed import InstalledBundle
from bundler.home.stamps.stamps import MOST_BYTES, DamagedStampsError, Stamps

Note = Callable[[str], None]


class NoStateFolderError(Exception):
    """There is no folder that only this user can write to; the message says why."""


def open_state_folder(home: Path) -> Path:
    """Return this user's folder for the stamps of a home; it is made where it is missing.

    Raises:
        NoStateFolderError: It cannot be made, or others can write to it.
    """
    base = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    try:
        base = base.expanduser()
    except RuntimeError as error:
        raise NoStateFolderError(str(error)) from error
    folder = base.absolute() / "bundle"
    parts = [folder, folder / "stamps", folder / "stamps" / sha256_bytes(os.fsencode(home.resolve()))[:32]]
    for part in parts:
        try:
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = part.lstat()
        except OSError as error:
            raise NoStateFolderError(f"{part}: {error.strerror}") from error
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise NoStateFolderError(f"{part} should be a folder that only this user can write to; it is not")
    return parts[-1]


def turn_path(folder: Path, bundle: InstalledBundle) -> Path:
    """Return the file by which launches of a user take turns (`bundler.home.stamps.turns`)."""
    return own_stamps_path(folder, bundle).with_suffix(".lock")


def own_stamps_path(folder: Path, bundle: InstalledBundle) -> Path:
    """Return where a user's own stamps of a generation stand in his folder."""
    return folder / f"{bundle.name}-{short_digest(bundle.digest)}.json"


def read_stamps(bundle: InstalledBundle, folder: Path | None, *, trust_home: bool, on_note: Note) -> list[Stamps]:
    """Return the stamps of a generation that are to be believed, the user's own first.

    Args:
        bundle: The generation.
        folder: The user's own; None where he has none.
        trust_home: Whether those of root and the home's owner are believed, too; one's own always are.
        on_note: Told of a file that cannot be used.
    """
    owner = bundle.hf_home.stat().st_uid
    user = os.geteuid()
    believed = {user, *((0, owner) if trust_home else ())}
    own = _read(own_stamps_path(folder, bundle), bundle, {user}, on_note) if folder else None
    kept = _read(stamps_path(bundle.hf_home, bundle.name, bundle.digest), bundle, believed, on_note)
    return [stamps for stamps in (own, kept) if stamps]


def _read(path: Path, bundle: InstalledBundle, believed: set[int], on_note: Note) -> Stamps | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        on_note(f"note: {path} is not used: {error.strerror}")
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if status.st_uid not in believed:
            return None  # Of others: their business.
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022 or status.st_size > MOST_BYTES:
            on_note(f"note: {path} is not used: it should be a file that only its owner can write to")
            return None
        try:
            stamps = Stamps.loads(stream.read(MOST_BYTES))
        except DamagedStampsError as error:
            on_note(f"note: {path} is not used, and will be written anew: {error}")
            return None
    return stamps if stamps.is_about(bundle) else None


def write_own_stamps(folder: Path, bundle: InstalledBundle, stamps: Stamps) -> None:
    """Write a user's own stamps, and delete those of generations that are gone.

    Raises:
        OSError: They cannot be written.
    """
    _write(own_stamps_path(folder, bundle), stamps, 0o600)
    for path in (*folder.glob("*.json"), *folder.glob("*.lock")):
        name, _, short = path.stem.rpartition("-")
        if not generation_path(bundle.hf_home, name, short).exists():
            with contextlib.suppress(OSError):
                path.unlink()


def may_write_home_stamps(home: Path) -> bool:
    """Tell whether others would believe what this user writes into a home."""
    return os.geteuid() in (0, home.stat().st_uid)


def write_home_stamps(bundle: InstalledBundle, stamps: Stamps) -> None:
    """Write the stamps of a home, under its lock.

    Raises:
        OSError: They cannot be written.
    """
    path = stamps_path(bundle.hf_home, bundle.name, bundle.digest)
    # Readable for whoever can read the home, whatever the umask; what they say is no secret.
    _write(path, stamps, 0o644)
    path.chmod(0o644)


def _write(path: Path, stamps: Stamps, mode: int) -> None:
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(f"{path} is a folder")
    with atomic_writer(path, mode=mode) as stream:
        stream.writelines(stamps.pieces())
