"""What the checks of the proof share: the entry to check, its results, and the handling of failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundler.plan.lock import LockedRepo

# How many names a message shows; more would not help to find the fault.
SHOWN = 5


class LoadingFault(Exception):  # noqa: N818 - it is reported, not raised to a user
    """An entry does not load; the text says what was tried, and what happened."""


class ContradictionFault(LoadingFault):
    """All files are there, but they do not fit together, or one is damaged in the repo itself."""


class MissingPieceFault(LoadingFault):
    """Something that an entry needs is not in the bundle.

    Attributes:
        line: What to write into the manifest.
    """

    def __init__(self, message: str, *, line: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class Outcome:
    """The results for one entry.

    Attributes:
        proven: What worked.
        notes: What was not checked, and why; what is unusual but harmless.
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
        """All names that it must load by."""
        return [self.repo.repo_id, *(alias for alias in self.repo.aliases if alias != self.repo.repo_id)]

    @property
    def paths(self) -> frozenset[str]:
        """The paths of its files in the repo."""
        return frozenset(file.path for file in self.repo.files)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that a user would pass with the name."""
        return {"revision": self.repo.revision, "trust_remote_code": self.repo.trust_remote_code}

    def json(self, path: str) -> dict[str, Any]:
        """Read a JSON object of the snapshot; empty if there is no such file.

        Raises:
            ContradictionFault: The file is not JSON.
        """
        if path not in self.paths:
            return {}
        try:
            content = json.loads((self.snapshot / path).read_bytes())
        except (ValueError, RecursionError) as error:
            raise ContradictionFault(f"{path} is not JSON: {error}") from error
        return content if isinstance(content, dict) else {}


def try_call(what: str, action: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
    """Call a function as a user's program would, and return its result.

    Raises:
        LoadingFault: It failed; the message begins with `what`.
        ImportError: A package is missing, which says nothing about the files.
    """
    try:
        return action(*arguments, **options)
    except (ImportError, LoadingFault):
        raise
    except Exception as error:
        raise LoadingFault(f"{what}: {type(error).__name__}: {_first_lines(error)}") from error


def _first_lines(error: BaseException) -> str:
    """Return the first lines of a library's message, which may be very long."""
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else f"{text[:400]}…"
