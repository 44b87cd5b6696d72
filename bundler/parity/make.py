"""Write parity of a bundle's files beside them: one file, or volumes that are no longer than the bundle's own."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from bundler.errors import FormatError, UsageError
from bundler.files.atomic import fsync_dir, temporary_path
from bundler.files.leftovers import remove_leftovers
from bundler.files.space import check_room, report_full_disk
from bundler.parity.code import encode, load_code
from bundler.parity.grid import Grid, choose_grid
from bundler.parity.names import PARITY_SUFFIX
from bundler.parity.parity_file import Head, ParityFile, hash_cell, head_bytes, write_ends
from bundler.parity.protected import FileRun, ProtectedFile, write_at

# Of a head that stands twice, and what follows the second one.
_ENDS_BYTES = 64


@dataclass(frozen=True)
class ParityMade:
    """What was written.

    Attributes:
        files: The files of parity.
        size_bytes: Their lengths together.
        replaced: Which of them were there before, with other parity.
        was_there: Whether all of it was there, and only hashed.
    """

    files: tuple[Path, ...]
    size_bytes: int
    replaced: tuple[Path, ...]
    was_there: bool = False


def make_parity(
    paths: Sequence[Path],
    base: Path,
    digest: str,
    share: Fraction,
    *,
    pieces: Sequence[int] = (),
    keep: bool = False,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda count: None,
) -> ParityMade:
    """Write parity of files that are in one folder; what stood there under these names is replaced.

    Args:
        paths: The bundle, or its volumes in order.
        base: The name of the bundle, without a volume's number: that of the parity begins with it.
        digest: The bundle's digest.
        share: Which share of the bytes, of the files, or of `pieces` may be lost.
        pieces: As of `bundler.parity.grid.choose_grid`.
        keep: Whether to keep parity that is there, and is that of this bundle: for files that are known to be good.
        on_total: Called once with the number of bytes that `progress` will add up to.
        progress: Called with the number of bytes done since the last call.

    Raises:
        DependencyError: The package for the code is not installed.
        FormatError: A file is missing, or changed while it was read.
        SpaceError: The disk has no room; nothing is left there.
        UsageError: There is nothing to protect, or what has such a name is no parity.
    """
    load_code()
    files = [ProtectedFile(path.name.removeprefix(base.name), path.stat().st_size) for path in paths]
    grid = choose_grid([file.size_bytes for file in files], share, pieces)
    counts = _share_out(grid, files)
    places = _name_files(base, len(counts))
    if keep and _is_there(places, files, digest, grid, counts):
        return ParityMade(tuple(places), sum(place.stat().st_size for place in places), (), was_there=True)
    replaced = _find_replaced(places)
    needed = sum(
        2 * head_bytes(grid, files, 0, count) + count * grid.block_bytes + _ENDS_BYTES for count in counts
    )
    remove_leftovers(base.parent, now=time.time(), below=False)
    check_room({base.parent: needed}, hint="ask for less parity")
    on_total(grid.size_bytes)
    full = report_full_disk(
        base.parent, f"{base.parent}: the file system is full; no parity is left there", hint="ask for less parity"
    )
    with full, FileRun(base, files, grid.cell_bytes) as run, ExitStack() as undo:
        temporary = []
        for place in places:
            temporary.append(temporary_path(place.parent))
            undo.callback(temporary[-1].unlink, missing_ok=True)
        _write(run, digest, grid, counts, temporary, progress)
        for written, place in zip(temporary, places, strict=True):
            written.replace(place)
        fsync_dir(base.parent)
    size_bytes = sum(place.stat().st_size for place in places)
    return ParityMade(tuple(places), size_bytes, replaced)


def _is_there(
    places: Sequence[Path], files: Sequence[ProtectedFile], digest: str, grid: Grid, counts: Sequence[int]
) -> bool:
    """Tell whether there is parity of a bundle of that digest, all of it good."""
    first = 0
    for place, count in zip(places, counts, strict=True):
        try:
            with closing(ParityFile(place)) as found:
                head = found.head
                if (head.digest, head.files, head.grid) != (digest, tuple(files), grid):
                    return False
                if (head.first, head.count) != (first, count):
                    return False
                if any(found.read_cell(row, block) is None for block in range(count) for row in range(grid.rows)):
                    return False
        except FormatError:
            return False
        first += count
    return True


def _find_replaced(places: Sequence[Path]) -> tuple[Path, ...]:
    found = tuple(place for place in places if os.path.lexists(place))
    for place in found:
        try:
            ParityFile(place).close()
        except FormatError as error:
            raise UsageError(
                f"{place} is in the way, and is no parity that would be replaced",
                hint="move it away, or delete it",
            ) from error
    return found


def _share_out(grid: Grid, files: Sequence[ProtectedFile]) -> list[int]:
    """Return how many blocks go into each file of parity; of one file all go into one."""
    if len(files) == 1:
        return [grid.parity_blocks]
    room = (
        max(file.size_bytes for file in files) - 2 * head_bytes(grid, files, 0, grid.parity_blocks) - _ENDS_BYTES
    )
    most = max(1, room // grid.block_bytes)
    count = math.ceil(grid.parity_blocks / most)
    return [grid.parity_blocks // count + (number < grid.parity_blocks % count) for number in range(count)]


def _name_files(base: Path, count: int) -> list[Path]:
    whole = base.with_name(base.name + PARITY_SUFFIX)
    if count == 1:
        return [whole]
    return [whole.with_name(f"{whole.name}.{number + 1:03}") for number in range(count)]


def _write(
    run: FileRun,
    digest: str,
    grid: Grid,
    counts: Sequence[int],
    places: Sequence[Path],
    progress: Callable[[int], None],
) -> None:
    starts = [sum(counts[:number]) for number in range(len(counts))]
    heads = [head_bytes(grid, run.files, start, count) for start, count in zip(starts, counts, strict=True)]
    digests: list[bytes] = []
    parity_digests: list[list[bytes]] = [[] for _ in counts]
    with ExitStack() as opened:
        descriptors = []
        for place in places:
            descriptors.append(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            opened.callback(os.close, descriptors[-1])
        # New memory for each row would take longer to come by than to fill.
        whole = memoryview(bytearray(grid.blocks * grid.cell_bytes))
        cells = [whole[start : start + grid.cell_bytes] for start in range(0, len(whole), grid.cell_bytes)]
        for row in range(grid.rows):
            for block, cell in enumerate(cells):
                _read(run, grid.place(row, block), cell)
            digests += [hash_cell(cell) for cell in cells]
            for number, parity in enumerate(encode_row(cells, grid)):
                file = max(index for index, start in enumerate(starts) if start <= number)
                parity_digests[file].append(hash_cell(parity))
                at = heads[file] + (number - starts[file]) * grid.block_bytes + row * grid.cell_bytes
                write_at(descriptors[file], parity, at)
            progress(min(grid.blocks * grid.cell_bytes, grid.size_bytes - row * grid.blocks * grid.cell_bytes))
        for file, descriptor in enumerate(descriptors):
            head = Head(
                digest,
                run.files,
                grid,
                starts[file],
                counts[file],
                b"".join(digests),
                b"".join(parity_digests[file]),
            )
            write_ends(descriptor, head)
            # Who may not read the bundle may not read it out of its parity.
            os.fchmod(descriptor, run.mode)
            os.fsync(descriptor)


def _read(run: FileRun, place: int, cell: memoryview) -> None:
    if not run.read_cell(place, cell):
        raise FormatError(
            f"{run.paths[0]}: became shorter, or went away, while parity was made of it",
            hint="run the same command again when nothing else writes there",
        )


def encode_row(cells: Sequence[bytes | memoryview], grid: Grid) -> list[bytes]:
    """Return the cells of parity of a row, column by column."""
    parts: list[list[memoryview]] = [[] for _ in range(grid.parity_blocks)]
    for column in range(grid.columns):
        start, stop = column * grid.column_bytes, (column + 1) * grid.column_bytes
        data = b"".join([memoryview(cell)[start:stop] for cell in cells])
        for number, string in enumerate(encode(data, grid.column_bytes, grid.parity_blocks)):
            parts[number].append(string)
    return [b"".join(strings) for strings in parts]
