"""Where each file that is wrong is made whole: in place, or whole under another name first.

Rule book:

* only a file that is known to be the bundle's is written to: some of it is good, and no other file of the bundle or of
  its parity is the same one under another name;
* a link is followed only to such a file. Any other link is replaced itself, and what it leads to stays;
* what is no file, and what may not be read, is refused, not replaced.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import UsageError
from bundler.parity.protected import identify
from bundler.parity.protection import Cells, Protection

OUTPUT_HINT = "name another folder with --output"


@dataclass(frozen=True)
class Target:
    """One file that is wrong.

    Attributes:
        path: What it is called when it is whole.
        descriptor: Of that file, open for writing, if it is mended in place; None if it is written whole.
    """

    path: Path
    descriptor: int | None = None


def choose_elsewhere(protection: Protection, wrong: Iterable[int], output: Path) -> dict[int, Target]:
    """Return number of a file -> target in another folder.

    Raises:
        UsageError: A file of that name is there.
    """
    targets = {number: Target(output / protection.run.paths[number].name) for number in wrong}
    for target in targets.values():
        if os.path.lexists(target.path):
            raise UsageError(f"{target.path} is there already, and is not replaced", hint=OUTPUT_HINT)
    return targets


def choose_in_place(
    protection: Protection, wrong: Iterable[int], bad: Cells, opened: ExitStack, on_note: Callable[[str], None]
) -> dict[int, Target]:
    """Return number of a file -> target where it is.

    Args:
        protection: The files and their parity.
        wrong: Numbers of the files.
        bad: Cells that are damaged.
        opened: Closes what is opened.
        on_note: Told of links that are replaced.

    Raises:
        UsageError: Something else than a file is there.
        OSError: A file is there that may not be read.
    """
    known = protection.count_good(bad)
    names: Counter[object] = Counter(protection.list_identities())
    targets = {}
    for number in wrong:
        path = protection.run.paths[number]
        _check_replaceable(path)
        is_known = known[number] > 0 and names[protection.run.identify(number)] == 1
        if path.is_symlink():
            if is_known:
                path = Path(os.path.realpath(path))
            else:
                on_note(f"{path}: the link is replaced, and what it leads to stays: {path.readlink()}")
        targets[number] = Target(path, _open_for_writing(protection, number, path, opened) if is_known else None)
    return targets


def _check_replaceable(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode):
        # A file that cannot be read is not missing.
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    elif not stat.S_ISLNK(mode):
        raise UsageError(
            f"{path}: expected a file of the bundle, found {'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'}"
            "; nothing was changed",
            hint=f"move it away, or {OUTPUT_HINT}",
        )


def _open_for_writing(protection: Protection, number: int, path: Path, opened: ExitStack) -> int | None:
    """Return a descriptor of a file that can be mended in place; None for one that has to be replaced."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY):
            raise
        return None  # Whoever may write to the folder may replace it all the same.
    opened.callback(os.close, descriptor)
    # Under another name it may stand for something else, which is to stay as it is.
    has_one_name = os.fstat(descriptor).st_nlink == 1
    return descriptor if has_one_name and protection.run.identify(number) == identify(descriptor) else None
