"""Which process made a file: a mark for the file's name, and whether that process still runs.

Rule book:

* a mark is ``<system>-<boot>-<pid>-<start>``. A number alone is no mark: Linux gives it to another process later, and
  other machines and containers that share a disk use the same numbers;
* for a process of this boot on this machine, the process table tells whether it runs. Processes of earlier boots are
  gone. A process of another machine counts as alive until its file has not changed for `patience_seconds`;
* what cannot be known counts as alive: a file that is kept too long costs space, a file deleted too early costs work.
"""

from __future__ import annotations

import os
import re
import socket
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# What `read_start_ticks` returns when it does not know. No user process starts at tick 0.
UNKNOWN_START = 0
# proc_pid_stat(5): the state is the third field, the start the 22nd.
_DEAD = frozenset("ZXx")
_START_TIME = 22
_MARK = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-([1-9][0-9]{0,9})-([0-9]{1,20})(?![^-])")


@dataclass(frozen=True)
class Owner:
    """A process, distinguished from all others that had its pid before or have it on another machine.

    Attributes:
        system: Eight hex digits for a machine and a process namespace in it.
        boot: Eight hex digits for the boot.
        pid: Its number there.
        start_ticks: When it started, in clock ticks since the boot; `UNKNOWN_START` if not known.
    """

    system: str
    boot: str
    pid: int
    start_ticks: int

    @classmethod
    def current(cls) -> Owner:
        """Return this process."""
        return _identify(os.getpid())

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Parse the mark at the beginning of `text`; None if there is none."""
        match = _MARK.match(text)
        return cls(match[1], match[2], int(match[3]), int(match[4])) if match else None

    @property
    def mark(self) -> str:
        """The text for a file's name."""
        return f"{self.system}-{self.boot}-{self.pid}-{self.start_ticks}"

    def may_be_alive(self, *, idle_seconds: float, patience_seconds: float) -> bool:
        """Tell whether the process may still be using its file.

        Args:
            idle_seconds: How long ago the file last changed.
            patience_seconds: Idle time after which a process of another machine counts as gone.
        """
        here = Owner.current()
        if self.system != here.system:
            return idle_seconds < patience_seconds
        if self.boot != here.boot:
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass  # it runs, as another user
        try:
            fields = read_stat_fields(self.pid)
        except OSError:
            return True
        # A dead process whose parent has not asked how it ended, as the first process of a container may never do.
        if fields[:1] and fields[0] in _DEAD:
            return False
        found = _read_start(fields)
        return UNKNOWN_START in (found, self.start_ticks) or found == self.start_ticks


def read_start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since the boot; `UNKNOWN_START` if there is no such process."""
    try:
        return _read_start(read_stat_fields(pid))
    except OSError:
        return UNKNOWN_START


def _read_start(fields: list[str]) -> int:
    try:
        return int(fields[_START_TIME - 3])
    except (ValueError, IndexError):
        return UNKNOWN_START


def read_stat_fields(pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` from the third on (proc_pid_stat(5)): field n is at n - 3.

    Raises:
        OSError: There is no such process, or no /proc.
    """
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    # The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
    return text.rpartition(")")[2].split()


@lru_cache(maxsize=1)  # called for each file; keyed by pid, since a forked child has another
def _identify(pid: int) -> Owner:
    # Host names alone are not enough: many machines are called localhost, and a container may have its host's name.
    system = (socket.gethostname(), _read("/etc/machine-id"), _read_process_namespace())
    boot = _read("/proc/sys/kernel/random/boot_id")
    return Owner(_checksum(*system), _checksum(boot), pid, read_start_ticks(pid))


def _checksum(*parts: str) -> str:
    # A host name may be too long for a file name, or have characters that it should not have.
    return f"{zlib.crc32(' '.join(parts).encode()):08x}"


def _read(path: str) -> str:
    """Return the text of a small file; empty if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _read_process_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
