"""What a process of the proof finds and may write, and its environment: an offline launch's, and little of ours."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import bundler
from bundler.offline.launch.writable_overlay import merge_files, mirror
from bundler.offline.variables import WritableOverlay, offline_environment
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.lock import Lock

Mode = Literal["prove", "prepare"]

# What a child sees of the environment. Settings of the person who fetches must not help, or hinder, what has to work on
# another machine, and what is a secret nobody can tell by its name.
_PASSED = re.compile(
    r"PATH|LANG|LANGUAGE|LC_[A-Z]+|TZ|LD_LIBRARY_PATH|PYTHONPATH|PYTHONHOME|PYTHONUTF8|PYTHONIOENCODING|PYTHONWARNINGS"
    r"|(OMP|MKL|OPENBLAS)_NUM_THREADS"
)


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where a process of the proof finds and leaves things.

    Attributes:
        home: Its HF_HOME, to be read.
        scratch: What it may write: a home, a temporary folder, and what libraries insist on.
        writable: All folders that it may write.
        root: An empty folder for a root of its own.
        temporary: Its temporary folder.
    """

    home: Path
    scratch: Path
    writable: tuple[Path, ...]
    root: Path
    temporary: Path

    @property
    def content(self) -> tuple[Path, ...]:
        """Where files of the bundle are opened: its cache without our receipt, and copies of what may be no link."""
        return (*(self.home / name for name in ("hub", "datasets", "files")), self.scratch / "files")

    def with_temporary(self, folder: Path) -> Folders:
        """Return these with another temporary folder."""
        return replace(self, temporary=folder, writable=(*self.writable, folder))

    @classmethod
    def make(cls, work: Path, home: Path, mode: Mode) -> Folders:
        """Make the folders below `work`, for a process whose HF_HOME is there already."""
        scratch, root, datasets = work / "scratch", work / "root", home / "datasets"
        for folder in (root, scratch / "home", scratch / "tmp", scratch / "modules", scratch / "datasets"):
            folder.mkdir(parents=True)
        writable = [scratch]
        if mode == "prepare":
            datasets.mkdir(exist_ok=True)
            writable.append(datasets)
        elif datasets.is_dir():
            # These files are links to the store: read here, with folders of their own for lock files.
            mirror(datasets, scratch / "datasets")
        if mode == "prove" and (found := sorted((home / "files").glob("*/snapshots/*"))):
            merge_files(found, scratch / "files")
        return cls(home=home, scratch=scratch, writable=tuple(writable), root=root, temporary=scratch / "tmp")

    def write_receipt(self, lock: Lock) -> None:
        """Write as much of a receipt as the guard reads, so that it answers calls as it does in a launch."""
        (self.home / BUNDLES_FOLDER).mkdir(exist_ok=True)
        (self.home / BUNDLES_FOLDER / f"{lock.name}.json").write_text(f'{{"lock": {lock.dumps()}}}')

    def environment(self, mode: Mode) -> dict[str, str]:
        """Return the environment of a Python process of ours."""
        own = self._own_environment()
        # For equal results everywhere: few threads, no warnings about forks, and no GPU.
        own |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0"}
        source = Path(bundler.__file__).parents[1]
        if source.name not in ("site-packages", "dist-packages"):
            # Perhaps found by the working folder only.
            own["PYTHONPATH"] = os.pathsep.join(filter(None, [own.get("PYTHONPATH"), str(source)]))
        if mode == "prove":
            return self._apply_offline(own)
        # The library must think that it is online. Only our Hub on loopback can be reached.
        return own | {
            "HF_HOME": str(self.home),
            "HF_MODULES_CACHE": str(self.scratch / "modules"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        }

    def command_environment(self) -> dict[str, str]:
        """Return the environment of a command of the user's: that of an offline launch."""
        return self._apply_offline(self._own_environment())

    def _own_environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
        own |= {"HOME": str(self.scratch / "home"), "TMPDIR": str(self.temporary)}
        return own | {"CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}

    def _apply_offline(self, own: Mapping[str, str]) -> dict[str, str]:
        files = self.scratch / "files"
        overlay = WritableOverlay(
            modules=self.scratch / "modules",
            datasets=self.scratch / "datasets",
            files=files if files.is_dir() else None,
            metrics=self.scratch / "metrics",
            evaluate=self.scratch / "evaluate",
        )
        return offline_environment(self.home, overlay=overlay).apply(own)
