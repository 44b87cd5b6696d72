"""What the checks of the proof share: the entry they look at, what they report, and how a failure is caught."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundler.plan.lock import LockedRepo

# More names than these do not help anybody to find the fault.
SHOWN = 5


class LoadingFault(Exception):  # noqa: N818 - it is reported, not raised to a user
    """An entry does not load; the text says what was tried and what came of it."""


class ContradictionFault(LoadingFault):
    """All files are there, and they do not fit together, or one is damaged in the repo itself."""


@dataclass
class Outcome:
    """What the proof of one entry showed.

    Attributes:
        proven: What was seen to work.
        notes: What was not checked, and why; what is odd but harmless.
    """

    proven: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LoadedEntry:
    """An entry in the proof's cache.

    Attributes:
        repo: The entry.
        snapshot: Its folder in the cache.
    """

    repo: LockedRepo
    snapshot: Path

    @property
    def names(self) -> list[str]:
        """Every name that it must load by."""
        return [self.repo.repo_id, *(alias for alias in self.repo.aliases if alias != self.repo.repo_id)]

    @property
    def paths(self) -> frozenset[str]:
        """Its files."""
        return frozenset(file.path for file in self.repo.files)

    @property
    def options(self) -> dict[str, Any]:
        """What a user would pass beside the name."""
        return {"revision": self.repo.revision, "trust_remote_code": self.repo.trust_remote_code}

    def json(self, path: str) -> dict[str, Any]:
        """Read a JSON object of the snapshot; empty when there is no such file."""
        if path not in self.paths:
            return {}
        try:
            content = json.loads((self.snapshot / path).read_bytes())
        except ValueError as error:
            raise ContradictionFault(f"{path} is not JSON: {error}") from error
        return content if isinstance(content, dict) else {}


def tried(what: str, action: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
    """Do what a user's program would do; a failure becomes a `LoadingFault` that names it.

    An ImportError passes: a missing package says nothing about the files.
    """
    try:
        return action(*arguments, **options)
    except (ImportError, LoadingFault):
        raise
    except Exception as error:
        raise LoadingFault(f"{what}: {type(error).__name__}: {_first_lines(error)}") from error


def _first_lines(error: BaseException) -> str:
    """Return the start of a library's message, which may go on for pages."""
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else f"{text[:400]}…"
