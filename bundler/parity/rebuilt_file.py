"""A file of a bundle as it was: what is good of it, and in place of the rest the cells that parity gave.

Nothing is copied: a reader goes to the file, and for each cell that was rebuilt to the spool, which holds only those.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

from bundler.errors import DamagedError, FormatError
from bundler.format.storage.stored import Stored
from bundler.parity.protected import FileRun, write_at
from bundler.remote.address import Place


class Spool:
    """Cells that were rebuilt, in a file that is open.

    Args:
        descriptor: Of an empty file, which the caller closes.
        cell_bytes: Length of a cell.
    """

    def __init__(self, descriptor: int, cell_bytes: int) -> None:
        self.cell_bytes = cell_bytes
        self._descriptor = descriptor
        # Where a cell begins in the run -> where in the spool.
        self._offsets: dict[int, int] = {}
        self._places: list[int] = []

    def add(self, place: int, content: bytes) -> None:
        """Keep the cell that begins at `place` in the run of all files."""
        offset = len(self._places) * self.cell_bytes
        write_at(self._descriptor, content, offset)
        self._offsets[place] = offset
        insort(self._places, place)

    def list_places(self, start: int, stop: int) -> list[int]:
        """Return where cells begin that have bytes between two places in the run, ascending."""
        first = bisect_right(self._places, start - self.cell_bytes)
        return self._places[first : bisect_left(self._places, stop)]

    def read(self, place: int) -> bytes:
        """Return the cell that begins at `place`."""
        return os.pread(self._descriptor, self.cell_bytes, self._offsets[place])


class RebuiltFile(Stored):
    """One file of a bundle, as it was (see `bundler.format.storage.stored.Stored`).

    Args:
        run: All files.
        number: Which of them.
        spool: Cells that stand for those of the files.
    """

    def __init__(self, run: FileRun, number: int, spool: Spool) -> None:
        self.path: Place = run.paths[number]
        self.size_bytes = run.files[number].size_bytes
        self._run, self._number, self._spool = run, number, spool

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start` (see `Stored`)."""
        stop = start + len(target)
        if stop > self.size_bytes:
            raise FormatError(f"{self.path}: ends at byte {self.size_bytes}, expected more")
        for begin, end, place in self._list_parts(start, stop):
            part = target[begin - start : end - start]
            if place is not None:
                skipped = self._run.starts[self._number] + begin - place
                part[:] = self._spool.read(place)[skipped : skipped + len(part)]
            elif not self._run.read_into(self._number, begin, part):
                raise DamagedError(f"{self.path}: cannot be read any more")

    def _list_parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int | None]]:
        """Yield (begin, end, place in the run of the cell, None for the file itself) of what lies from `start` on."""
        first = self._run.starts[self._number]
        done = start
        for place in self._spool.list_places(first + start, first + stop):
            begin, end = max(start, place - first), min(stop, place - first + self._spool.cell_bytes)
            if done < begin:
                yield done, begin, None
            yield begin, end, place
            done = end
        if done < stop:
            yield done, stop, None

    def file_at(self, start: int) -> Place:
        """Return the file."""
        return self.path

    def expect(self, spans: Iterable[tuple[int, int]]) -> AbstractContextManager[object]:
        """Do nothing: the system reads ahead."""
        return nullcontext()

    def close(self) -> None:
        """Do nothing: whoever opened the files closes them."""
