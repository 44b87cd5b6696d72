"""What changed in a home, a line each: `HF_HOME/bundles/log.jsonl`, which is only ever added to.

The log tells an admin who installed what, when and from where, and a rollback what came before. Nothing that is
verified depends on it: a home whose log is lost, or cannot be read, works as before.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from bundler import __version__
from bundler.files.access import get_user_name
from bundler.plan.layout import BUNDLES_FOLDER

LOG_NAME = "log.jsonl"
Action = Literal["install", "rollback", "remove", "prune"]


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """One change.

    Attributes:
        at: Time in UTC, ISO 8601.
        by: User and host.
        version: Of `bundle`.
        action: install, rollback, remove or prune.
        name: The bundle's name.
        digest: Of the generation that was installed, made current, or deleted.
        before: Digest of the generation that was current before, where another one was.
        source: File, volumes or stream that was installed.
        freed_bytes: Content that was deleted.
    """

    at: str
    by: str
    version: str
    action: str
    name: str
    digest: str
    before: str | None = None
    source: str | None = None
    freed_bytes: int | None = None


def append_to_log(
    hf_home: Path,
    action: Action,
    name: str,
    digest: str,
    *,
    before: str | None = None,
    source: str | None = None,
    freed_bytes: int | None = None,
) -> None:
    """Add a line for a change that has been made, by this process and now; where that cannot be, the change stands."""
    entry = LogEntry(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        by=f"{get_user_name(os.geteuid())}@{socket.gethostname()}",
        version=__version__,
        action=action,
        name=name,
        digest=digest,
        before=before,
        source=source,
        freed_bytes=freed_bytes,
    )
    line = json.dumps({key: value for key, value in asdict(entry).items() if value is not None}) + "\n"
    with contextlib.suppress(OSError):
        _append(hf_home / BUNDLES_FOLDER / LOG_NAME, line.encode())


def _append(path: Path, line: bytes) -> None:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        # What a full disk or a kill cut short must not swallow this line.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (b"\n" if torn else b"") + line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_log(hf_home: Path) -> list[LogEntry]:
    """Return the changes in their order; lines that cannot be read are passed over."""
    try:
        lines = (hf_home / BUNDLES_FOLDER / LOG_NAME).read_bytes().split(b"\n")
    except OSError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            found.append(_parse(json.loads(line)))
    return found


def _parse(raw: dict[str, Any]) -> LogEntry:
    known = {field.name for field in fields(LogEntry)}
    entry = LogEntry(**{key: value for key, value in raw.items() if key in known})
    texts = (entry.at, entry.by, entry.action, entry.name, entry.digest, entry.before or "", entry.source or "")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("expected texts")
    datetime.datetime.fromisoformat(entry.at)
    return entry
