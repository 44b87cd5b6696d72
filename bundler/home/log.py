"""What changed in a home, a line each: `HF_HOME/bundles/log.jsonl`, which is only ever added to.

The log tells an admin who installed what, when and from where, and a rollback what came before. Nothing that is
verified depends on it: a home whose log is lost, or cannot be read, works as before. One that every user may change, or
that belongs to somebody who is not trusted, is not believed: `bundle prune` goes by the dates in it.
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
from bundler.errors import UntrustedError
from bundler.files.access import get_user_name
from bundler.home.exclusive import Note, no_note
from bundler.home.sharing.trusted_users import TrustedUsers
from bundler.plan.folders import BUNDLES_FOLDER

LOG_NAME = "log.jsonl"
_NO_LOGIN = 2**32 - 1
Action = Literal["install", "rollback", "remove", "prune"]


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """One change.

    Attributes:
        at: Time in UTC, ISO 8601.
        by: User and host; with ``(login NAME)`` where somebody else's login became that user, as by sudo.
        uid: The user's number; null in lines of versions that did not write it.
        version: Of `bundle`.
        action: install, rollback, remove or prune.
        name: The bundle's name.
        digest: Of the generation that was installed, made current, or deleted; empty where no receipt told it.
        before: Digest of the generation that was current before, where another one was.
        source: What was installed: the absolute path of a file or of volumes, or ``standard input``.
        freed_bytes: Content that was deleted.
    """

    at: str
    by: str
    version: str
    action: str
    name: str
    digest: str
    uid: int | None = None
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
    on_note: Note = no_note,
) -> None:
    """Add a line for a change that has been made, by this process and now.

    Where that cannot be, the change stands, and `on_note` is told.
    """
    path = hf_home / BUNDLES_FOLDER / LOG_NAME
    entry = LogEntry(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        by=_name_user(),
        uid=os.geteuid(),
        version=__version__,
        action=action,
        name=name,
        digest=digest,
        before=before,
        source=source,
        freed_bytes=freed_bytes,
    )
    line = json.dumps({key: value for key, value in asdict(entry).items() if value is not None}) + "\n"
    try:
        TrustedUsers(hf_home).check_file(path)
        _append(path, line.encode())
    except OSError as error:
        on_note(f"{path}: {error.strerror}: `bundle log` will not show that {name} was changed ({action})")
    except UntrustedError as error:
        on_note(f"{error}\n`bundle log` will not show that {name} was changed ({action})")


def name_source(label: str) -> str:
    """Return what a bundle was read from in words that mean the same in another folder."""
    return str(Path(label).absolute()) if os.path.lexists(label) else label


def _name_user() -> str:
    user = f"{get_user_name(os.geteuid())}@{socket.gethostname()}"
    # Set at login, and kept through sudo and su: proc(5).
    with contextlib.suppress(OSError, ValueError):
        login = int(Path("/proc/self/loginuid").read_text("ascii"))
        if login not in (os.geteuid(), _NO_LOGIN):
            return f"{user} (login {get_user_name(login)})"
    return user


def _append(path: Path, line: bytes) -> None:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    # Appended to, not replaced: where the umask lets the group write, its members must be able to go on with it.
    descriptor = os.open(path, flags, 0o664)
    try:
        size = os.fstat(descriptor).st_size
        # What a full disk or a kill cut short must not swallow this line.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (b"\n" if torn else b"") + line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_log(hf_home: Path) -> list[LogEntry]:
    """Return the changes in their order; lines that cannot be read are passed over.

    Raises:
        UntrustedError: The log is not to be believed.
    """
    path = hf_home / BUNDLES_FOLDER / LOG_NAME
    try:
        TrustedUsers(hf_home).check_file(path)
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
    except OSError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
            found.append(_parse(json.loads(line)))
    return found


def _parse(raw: dict[str, Any]) -> LogEntry:
    known = {field.name for field in fields(LogEntry)}
    entry = LogEntry(**{key: value for key, value in raw.items() if key in known})
    texts = (entry.at, entry.by, entry.action, entry.name, entry.digest, entry.before or "", entry.source or "")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("expected texts")
    if entry.uid is not None and type(entry.uid) is not int:
        raise TypeError("expected a number")
    datetime.datetime.fromisoformat(entry.at)
    return entry
