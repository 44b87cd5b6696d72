"""The result of a verification: faults, and the report that holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bundler.errors import IntegrityError
from bundler.text.wording import and_more, counted

if TYPE_CHECKING:
    from bundler.plan.layout import Layout

FaultKind = Literal["missing", "extra", "changed", "untrusted"]

REINSTALL_HINT = (
    "run `bundle install` with the bundle file again: it rewrites damaged files, and moves files that do not belong "
    "into a snapshot to bundles/set-aside"
)

# Called with the number of bytes done since the last call.
Progress = Callable[[int], None]


@dataclass(frozen=True, order=True)
class Fault:
    """One difference from the lock.

    Attributes:
        kind: missing, extra or changed; untrusted where somebody may change it who should not.
        path: Path below HF_HOME, or in the tar stream of a bundle.
        detail: What was expected and what was found, with the name of the file in the repo if it has one.
    """

    kind: FaultKind
    path: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a verification.

    Attributes:
        subject: Name of what was verified, for people.
        digest: The bundle's digest.
        quick: Whether only names, links and sizes were checked.
        files: Number of files with content that were checked.
        size_bytes: Number of bytes that were hashed.
        stamped_files: Of these files, how many were not hashed, since they have not changed since they were.
        stamped_bytes: Their length.
        undecoded_files: How many contents besides are stored as differences from content that is not here: of these the
            stored bytes were checked, and not what they stand for.
        faults: All faults, sorted.
        hint: What to do about them.
    """

    subject: str
    digest: str
    quick: bool = False
    files: int = 0
    size_bytes: int = 0
    stamped_files: int = 0
    stamped_bytes: int = 0
    undecoded_files: int = 0
    faults: tuple[Fault, ...] = field(default=())
    hint: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there are no faults."""
        return not self.faults

    def raise_if_failed(self) -> None:
        """Raise an error if there are faults.

        Raises:
            IntegrityError: There are faults; the message names the first ones and their number.
        """
        if self.ok:
            return
        listing = "\n  ".join(and_more([str(fault) for fault in self.faults]))
        raise IntegrityError(
            f"{self.subject}: verification failed, {counted(len(self.faults), 'fault')}:\n  {listing}",
            hint=self.hint,
        )


def no_progress(count: int) -> None:
    """Ignore progress."""


def repo_names(content: Layout) -> dict[str, str]:
    """Return blob path -> names of the repo files with that content, such as ``openai-community/gpt2: vocab.json``."""
    names: dict[str, list[str]] = {}
    for repo in content.repos:
        for file in repo.snapshots:
            names.setdefault(file.blob.path, []).append(file.repo_path)
    return {
        blob.path: f"{repo.repo_id}: {', '.join(sorted(set(names.get(blob.path, ['prepared dataset']))))}"
        for repo in content.repos
        for blob in (*repo.blobs, *repo.prepared)
    }
