"""Read what the guards of a launch have noted: one file per process, one JSON line per refused connection."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.files.bounded import read_bounded

# As many refused connections as anybody will read; a program that makes more has the rest counted as one.
MOST_NOTE_BYTES = 16 << 20
# Launches inside launches.
_MOST_DEPTH = 64


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A connection or look-up that a guard refused.

    Attributes:
        event: connect, sendto, sendmsg, getaddrinfo, gethostbyname, gethostbyaddr or getnameinfo.
        target: Host and port, or host.
        pid: Process that made it.
        argv: Its command line.
        file: File of the user's code line, or of the nearest code there was.
        line: Line number in it.
        code: Text of the line; empty where there is no source.
        wanted: Repo that a Hugging Face library was busy with, or empty.
    """

    event: str
    target: str
    pid: int
    argv: tuple[str, ...]
    file: str
    line: int
    code: str
    wanted: str = ""

    @property
    def where(self) -> str:
        """The code line for people: ``train.py:12 `AutoModel.from_pretrained("gpt2")```."""
        return f"{self.file}:{self.line}" + (f" `{self.code}`" if self.code else "")

    def as_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {**vars(self), "argv": list(self.argv)}


def read_attempts(folder: Path) -> list[Attempt]:
    """Return all attempts noted in `folder`, by process and in the order in which each made them.

    Those of launches inside the one whose folder it is are in folders below.
    """
    attempts = []
    for path in sorted(path for below in list_folders(folder) for path in below.glob("*.jsonl")):
        try:
            text = read_bounded(path, MOST_NOTE_BYTES).decode(errors="replace")
        except OSError:
            # Not written by a guard: the program can write here too.
            text = "{}"
        attempts += [_parse(line, path) for line in text.splitlines()]
    return attempts


def list_folders(folder: Path) -> list[Path]:
    """Return a folder and those below it, as deep as launches inside launches go: programs can make others here."""
    found, waiting = [], [(folder, 0)]
    while waiting:
        at, depth = waiting.pop()
        found.append(at)
        with contextlib.suppress(OSError):
            if depth < _MOST_DEPTH:
                waiting += [(path, depth + 1) for path in at.iterdir() if path.is_dir() and not path.is_symlink()]
    return found


def checksum(target: str) -> int:
    """Return by which number a guard tells the launcher that it refused a target."""
    return zlib.crc32(target.encode("utf-8", "replace")) & 0x7FFFFFFF


def count_lost(told: Mapping[int, int], noted: Iterable[Attempt]) -> int:
    """Return how many refusals have no note: each note stands for one of its own target, and for no other.

    Args:
        told: Checksum of a target -> how often the launcher was told of it.
        noted: The notes.
    """
    notes = Counter(checksum(attempt.target) for attempt in noted)
    return sum(max(0, count - notes[number]) for number, count in told.items())


def _parse(line: str, path: Path) -> Attempt:
    try:
        raw: dict[str, Any] = json.loads(line)
        return Attempt(
            event=str(raw["event"]),
            target=str(raw["target"]),
            pid=int(raw["pid"]),
            argv=tuple(map(str, raw["argv"])),
            file=str(raw["line"]["file"]),
            line=int(raw["line"]["line"]),
            code=str(raw["line"]["code"]),
            wanted=str((raw["wanted"] or {}).get("repo_id", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        # A process that was killed while writing, or a full disk. It was an attempt all the same.
        pid = int(path.stem) if path.stem.isdecimal() else 0
        return Attempt(
            event="unknown", target="unknown", pid=pid, argv=(), file=str(path), line=0, code="unreadable record"
        )


def group_attempts(attempts: Iterable[Attempt]) -> list[tuple[int, Attempt]]:
    """Return (count, first of its kind) for attempts with one target and one code line, most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], Attempt] = {}
    for attempt in attempts:
        key = (attempt.target, attempt.where)
        counts[key] += 1
        first.setdefault(key, attempt)
    return [(count, first[key]) for key, count in counts.most_common()]
