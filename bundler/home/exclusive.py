"""One process at a time changes what is installed in a HF_HOME: the lock file `HF_HOME/bundles/.lock`.

Names are written by rename, so that a reader never sees half a file; but what a receipt must say, which refs are free
and which blobs nobody uses any more is decided by reading other receipts, and such a decision must still hold when it
is carried out. The file is there while somebody works, or because he was killed; it means nothing without the kernel's
lock on it. Some network file systems have no locks: that is said, and then it is up to whoever calls.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from bundler.home.kernel_lock import wait_for_lock
from bundler.home.sharing.trusted_users import TrustedUsers
from bundler.plan.folders import BUNDLES_FOLDER

LOCK_NAME = ".lock"
_PROVISION_LOCK_NAME = ".from.lock"

Note = Callable[[str], None]
# As often as a folder may be removed in a row by those who had the lock before.
_MOST_REMOVED = 1000
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


def no_note(text: str) -> None:
    """Tell nobody."""


def lock_home(hf_home: Path, *, on_note: Note = no_note) -> contextlib.AbstractContextManager[None]:
    """Hold the right to change what is installed in `hf_home` while the block runs.

    Where nothing can be written no lock is needed: the block runs, and its own first write says what is wrong. What is
    written meanwhile, only the owner and the group may change, whatever the umask was.

    Args:
        hf_home: The cache root; made when missing, and removed again if the block leaves it empty and nobody waits.
        on_note: Told when another process must be waited for, and when the file system has no locks.

    Raises:
        UntrustedError: The home has folders that are not to be trusted: nobody writes there.
    """
    return _hold(hf_home, LOCK_NAME, "another `bundle` that installs or removes", on_note)


def lock_provision(hf_home: Path, *, on_note: Note = no_note) -> contextlib.AbstractContextManager[None]:
    """Hold the right to make room in `hf_home` and install what a launch lacks there, while the block runs.

    Of the launches that begin at once on a node one does it and the others wait, and find it there. It is another lock
    than that of `lock_home`, which each of the steps takes.

    Args:
        hf_home: As of `lock_home`.
        on_note: As of `lock_home`.

    Raises:
        UntrustedError: As of `lock_home`.
    """
    return _hold(hf_home, _PROVISION_LOCK_NAME, "another launch that installs", on_note)


@contextlib.contextmanager
def _hold(hf_home: Path, name: str, other: str, on_note: Note) -> Iterator[None]:
    TrustedUsers(hf_home).check_home()
    folder = hf_home / BUNDLES_FOLDER
    path = folder / name
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    # What is written is for nobody else to change, even where somebody set no umask at all.
    umask = os.umask(0o077)
    os.umask(umask | stat.S_IWOTH)
    descriptor = None
    try:
        descriptor = _acquire(path, other, on_note)
        yield
    finally:
        os.umask(umask)
        if descriptor is not None:
            # Before the lock is let go: who waits for it looks whether the file is still this one.
            with contextlib.suppress(OSError):
                path.unlink()
            for place in made or [folder]:
                with contextlib.suppress(OSError):
                    place.rmdir()
            os.close(descriptor)


def _acquire(path: Path, other: str, on_note: Note) -> int | None:
    has_said_so = False

    def say_so() -> None:
        nonlocal has_said_so
        if not has_said_so:
            on_note(f"waiting for {other} in {path.parent.parent}")
        has_said_so = True

    missing = 0
    while True:
        try:
            descriptor = _open(path)
        except FileNotFoundError:
            # The folder was removed, empty, by the one before. Where none can be made, as in /proc, that is said too.
            missing += 1
            if missing < _MOST_REMOVED:
                continue
            raise
        except OSError as error:
            if error.errno in _NOT_WRITABLE:
                return None
            raise
        try:
            wait_for_lock(descriptor, on_wait=say_so)
        except OSError as error:
            on_note(
                f"{path.parent.parent}: its file system has no locks ({error.strerror}): "
                "install and remove one bundle at a time there"
            )
            return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        # Also raised where another process removes the empty folder at this moment: lstat then says that it is gone.
        # What is there and no folder, a file or a link to nowhere, stays in the way.
        found = Path(error.filename)
        if not stat.S_ISDIR(found.lstat().st_mode) and not found.is_dir():
            raise
    # Nobody links it elsewhere: what it led to would be made, and emptied of its meaning.
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_RDWR, 0o666)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE or not path.exists():
            raise
        # Left by another user who was killed, in a folder of the group: it can be locked for all that.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
