"""Let a launch find files empty that hold secrets, by mounts that nothing outside it sees."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from bundler.offline.sandbox.system_calls import MS_BIND, mount


def cover_files(paths: Iterable[Path]) -> None:
    """Mount an empty device over each file; the calling process must be in a mount namespace of its own.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    for path in paths:
        # What is gone meanwhile, or lies where this user may not look, the command cannot read either.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            mount(os.devnull, path.resolve(), None, MS_BIND)
