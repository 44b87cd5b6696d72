"""A fault in a file that a person wrote, and the error that lists all faults of a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bundler.errors import BundleError
from bundler.text.wording import counted, printable

# Stands for the line number of a value from the command line.
COMMAND_LINE = 0
# Faults that a message shows: a file made by a program can have one in each line.
_SHOWN = 20
_PATH_CHARACTERS = 400


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        path: Key path such as ``models[2].revision``; empty for the whole file.
        line: 1-based line, `COMMAND_LINE`, or None if not known.
        message: What was expected, what was found, what to write.
    """

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        line = "(command line)" if self.line == COMMAND_LINE else f"(line {self.line})" if self.line else ""
        path = self.path if len(self.path) <= _PATH_CHARACTERS else f"{self.path[:_PATH_CHARACTERS]}…"
        place = " ".join(filter(None, [path, line]))
        # Keys and values come from the file, and may have control characters that a terminal would carry out.
        return printable(f"{place}: {self.message}" if place else self.message)


def sort_faults(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return faults in the order of the file; first those without a line, in the order in which they were found."""
    return tuple(sorted(faults, key=lambda fault: fault.line or 0))


class InvalidFileError(BundleError):
    """A file has faults. Each kind of file has a subclass, whose exit code the command ends with.

    Attributes:
        faults: Every fault that was found, in the order of the file.
        next_step: The hint for every file of this kind.
    """

    next_step: str | None = None

    def __init__(self, source: str, faults: Iterable[Fault]) -> None:
        self.faults = sort_faults(faults)
        count = len(self.faults)
        lines = [f"{source}: {counted(count, 'fault')}", *(f"  {fault}" for fault in self.faults[:_SHOWN])]
        if count > _SHOWN:
            lines.append(f"  and {count - _SHOWN:,} more")
        super().__init__("\n".join(lines), hint=self.next_step)
