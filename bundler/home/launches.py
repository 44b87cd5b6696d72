"""Who runs on which generation: `HF_HOME/bundles/launches`, a file for each launch while it lasts.

A launch notes the generations that it reads before it starts and deletes the note at its end, so that nobody prunes
what a job is reading. On this machine the process table says whether a note is still true (`bundler.files.owner`). A
note of another machine, which a shared file system may show, counts for 30 days: longer than a scheduler lets a job
run, so that what a dead node left keeps room for a while and does no other harm.

Whoever deletes hides the receipt of a generation first and looks for notes then; whoever launches writes the note first
and looks for the receipt then. So one of the two sees the other, however they meet.

Users who may not write to the home cannot leave a note. `bundle prune` says so where it matters: the folder is writable
for all who can read the home, like /tmp, if whoever installs can give it that mode.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.files.owner import Owner
from bundler.home.generation import generation_path
from bundler.home.installed import InstalledBundle
from bundler.home.receipt import receipt_path
from bundler.plan.folders import BUNDLES_FOLDER

LAUNCHES_FOLDER = f"{BUNDLES_FOLDER}/launches"
PATIENCE_SECONDS = 30 * 24 * 3600
# What others write here is read up to this size.
_MAX_NOTE_BYTES = 1 << 20


@dataclass(frozen=True)
class RunningLaunch:
    """A launch that reads generations.

    Attributes:
        host: Where it runs.
        pid: Its launcher there.
        generations: (name, digest) of each bundle; None where the note may not be read, so that it may be any.
    """

    host: str
    pid: int
    generations: tuple[tuple[str, str], ...] | None

    def reads(self, bundle: InstalledBundle) -> bool:
        """Tell whether it reads a generation, or may do so."""
        return self.generations is None or (bundle.name, bundle.digest) in self.generations

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextlib.contextmanager
def note_launch(hf_home: Path, bundles: Sequence[InstalledBundle]) -> Iterator[bool]:
    """Note while the block runs that this process, or what it starts, reads `bundles`.

    Yields:
        Whether the note could be written.
    """
    path = write_note(hf_home, bundles)
    try:
        yield path is not None
    finally:
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()


def note_installed(
    hf_home: Path, bundles: list[InstalledBundle], open_again: Callable[[], list[InstalledBundle]]
) -> tuple[list[InstalledBundle], Path | None]:
    """Note that this process reads `bundles`; open them again where one was deleted before the note was there.

    Args:
        hf_home: The cache root.
        bundles: What was opened.
        open_again: Opens what is there now; raises where nothing is.

    Returns:
        What was noted in the end; and the note, to be deleted when the launch ends, or None where none can be written.
    """
    while True:
        note = write_note(hf_home, bundles)
        if note is None or all(map(_is_there, bundles)):
            return bundles, note
        note.unlink(missing_ok=True)
        bundles = open_again()


def _is_there(bundle: InstalledBundle) -> bool:
    if generation_path(bundle.hf_home, bundle.name, bundle.digest).exists():
        return True
    # Of a version without generations there is only the pointer.
    with contextlib.suppress(OSError):
        return receipt_path(bundle.hf_home, bundle.name).read_bytes() == bundle.receipt.text
    return False


def find_reader(hf_home: Path, bundle: InstalledBundle) -> RunningLaunch | None:
    """Return a launch that reads a generation, or may do so; None if none does."""
    return next((launch for launch in find_launches(hf_home) if launch.reads(bundle)), None)


def write_note(hf_home: Path, bundles: Sequence[InstalledBundle]) -> Path | None:
    """Write a note of this process; return where, or None where it may not write."""
    note = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "generations": [[bundle.name, bundle.digest] for bundle in bundles],
    }
    path = hf_home / LAUNCHES_FOLDER / f"{Owner.current().mark}-{os.urandom(4).hex()}.json"
    try:
        make_folder(hf_home)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with open(descriptor, "w") as stream:  # noqa: PTH123 -- a descriptor
            # Whatever the umask: who prunes must be able to read it.
            os.fchmod(descriptor, 0o644)
            json.dump(note, stream)
    except OSError:
        return None
    return path


def make_folder(hf_home: Path) -> None:
    """Make the folder of notes, writable for all who can enter the home, as far as the system lets us.

    Raises:
        OSError: It is not there and cannot be made.
    """
    folder = hf_home / LAUNCHES_FOLDER
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            folder.chmod(0o1777)


def find_launches(hf_home: Path) -> list[RunningLaunch]:
    """Return the launches that go on, and delete notes of those that have ended on this host."""
    found = []
    try:
        entries = sorted((hf_home / LAUNCHES_FOLDER).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    for path in entries:
        launch, owner = _read(path), Owner.parse(path.name)
        if launch is None or owner is None:
            continue
        with contextlib.suppress(OSError):
            idle_seconds = time.time() - path.lstat().st_mtime
            if owner.may_be_alive(idle_seconds=idle_seconds, patience_seconds=PATIENCE_SECONDS):
                found.append(launch)
            else:
                path.unlink()
    return found


def _read(path: Path) -> RunningLaunch | None:
    owner = Owner.parse(path.name)
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_NOTE_BYTES:
            return None
        raw = json.loads(path.read_bytes())
        generations = tuple((str(name), str(digest)) for name, digest in raw["generations"])
        return RunningLaunch(str(raw["host"]), int(raw["pid"]), generations)
    except PermissionError:
        return RunningLaunch("another user's", owner.pid if owner else 0, None)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        # Being written, or cut off by a full disk: what its process reads is not known, but that it may read is.
        return RunningLaunch("a host that its note does not name", owner.pid if owner else 0, None)
    except OSError:
        return None
