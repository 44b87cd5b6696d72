"""What the stages of making a bundle report while they run."""

from __future__ import annotations

from typing import Literal

from bundler.plan.lock import LockedFile, LockedRepo

Stage = Literal["fetch", "prove", "pack"]


class Observer:
    """Told how the work goes; inherit and override what is wanted, the methods do nothing.

    `progress`, `file_done` and `note` are called from several threads, also at the same time.
    """

    def begin(self, stage: Stage, text: str, size_bytes: int = 0) -> None:
        """Take note that a stage begins, and with it the count of `progress`.

        Args:
            stage: Which.
            text: What it is about to do, for a person.
            size_bytes: What its progress will add up to; 0 where it reports none.
        """

    def progress(self, count: int) -> None:
        """Count `count` more bytes as done; it is negative when some had to be thrown away."""

    def file_done(self, repo: LockedRepo, file: LockedFile, *, downloaded: bool) -> None:
        """Take note that a file is in the store and verified."""

    def note(self, text: str) -> None:
        """Hear of something unusual that was dealt with."""

    def warn(self, text: str) -> None:
        """Hear of something that the bundle will lack and that might be missed."""
