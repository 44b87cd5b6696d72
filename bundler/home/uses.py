"""When each generation was last launched: the time of an empty file beside its receipt, ``DIGEST.used``.

It decides what goes first where a home is kept below a size (`bundler.home.provision.make_room`), and nothing else.
Launches of users who may not write to the home leave no trace: then the time of the installation counts.
"""

from __future__ import annotations

import contextlib
import os

from bundler.home.generation import generation_path, used_path
from bundler.home.installed import InstalledBundle


def note_use(bundle: InstalledBundle) -> None:
    """Note that a generation is launched now."""
    path = used_path(bundle.hf_home, bundle.name, bundle.digest)
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o664)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)


def read_last_use(bundle: InstalledBundle) -> float:
    """Return when a generation was launched last, or else installed, in seconds since the epoch."""
    place = bundle.hf_home, bundle.name, bundle.digest
    for path in (used_path(*place), generation_path(*place)):
        with contextlib.suppress(OSError):
            return path.lstat().st_mtime
    return 0.0
