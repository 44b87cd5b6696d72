"""The interface by which the stages of making a bundle report progress and notes."""

from __future__ import annotations

from typing import Literal

from bundler.plan.lock import LockedFile, LockedRepo

Stage = Literal["fetch", "prove", "pack"]


class Observer:
    """Receives progress and notes. The methods do nothing: inherit from this class and override those you need.

    `progress`, `file_done` and `note` are called from several threads, perhaps at the same time.
    """

    def begin(self, stage: Stage, text: str, size_bytes: int = 0) -> None:
        """A stage begins; `progress` counts from 0 again.

        A proof may go on while the bundle is packed. Where packing has to wait for it at the end, it is told again.

        Args:
            stage: Name of the stage.
            text: What it will do, for people.
            size_bytes: Sum of all `progress` in this stage; 0 if it reports none.
        """

    def progress(self, count: int) -> None:
        """`count` more bytes are done; negative if bytes were thrown away."""

    def file_done(self, repo: LockedRepo, file: LockedFile, *, downloaded: bool) -> None:
        """A file is in the store and verified."""

    def note(self, text: str) -> None:
        """Something unusual happened and was handled."""

    def warn(self, text: str) -> None:
        """The bundle will lack something that may be needed."""
