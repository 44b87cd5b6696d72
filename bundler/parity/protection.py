"""Files of a bundle together with what parity there is of them: which cells are good, and the others rebuilt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

from bundler.errors import BundleError, FormatError, IntegrityError
from bundler.format.find import read_digest
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader, is_volume_head, parse_volume_head
from bundler.parity.code import decode
from bundler.parity.parity_file import ParityFile, hash_cell
from bundler.parity.protected import FileRun

# RaptorQ may need this many strings more than there are blocks.
_SPARE = 3
# Row -> its blocks.
Cells = Mapping[int, Sequence[int]]


class Protection:
    """Files of one bundle, and parity of it.

    Args:
        run: The files.
        parts: Open files of parity of one and the same bundle, at least one.

    Attributes:
        run: The files.
        head: What the parity says of the bundle.
        grid: How it is cut.
    """

    def __init__(self, run: FileRun, parts: Sequence[ParityFile]) -> None:
        self.run = run
        self._parts = parts
        self.head = parts[0].head
        self.grid = self.head.grid
        # For the good cells of a row: new memory for each would take longer to come by than to fill.
        self._row = bytearray()

    def _is_good(self, row: int, block: int, room: memoryview) -> bool:
        """Tell whether a cell of the files is what it was; `room` is as long as a cell."""
        place, expected = self.grid.place(row, block), self.head.data_digest(row, block)
        if self.run.locate(place, len(room)) is None:
            # A file of parity can ask for many cells behind all files, which are alike.
            return _hash_zeros(len(room)) == expected
        return self.run.read_cell(place, room) and hash_cell(room) == expected

    def find_bad(self, progress: Callable[[int], None]) -> dict[int, list[int]]:
        """Return row -> blocks whose cells are damaged; of a file that was cut, also those past its end."""
        grid = self.grid
        bad: dict[int, list[int]] = defaultdict(list)
        room = memoryview(bytearray(grid.cell_bytes))
        # Block by block: that is the order in which they are on the disk.
        for block in range(grid.blocks):
            for row in range(grid.rows):
                if not self._is_good(row, block, room):
                    bad[row].append(block)
            progress(min(grid.block_bytes, grid.size_bytes - block * grid.block_bytes))
        return bad

    def list_files(self, bad: Cells) -> set[int]:
        """Return the numbers of the files that are not what they were: damaged ones, and those of another length."""
        wrong = {
            number for number, file in enumerate(self.run.files) if self.run.length_of(number) != file.size_bytes
        }
        return wrong | set(self.list_owners(bad))

    def list_owners(self, bad: Cells) -> list[int]:
        """Return the number of the file that each cell is of; nothing for those behind all files."""
        places = (self.grid.place(row, block) for row, blocks in bad.items() for block in blocks)
        found = (self.run.locate(place, self.grid.cell_bytes) for place in places)
        return [each[0] for each in found if each is not None]

    def check_enough(self, bad: Cells) -> None:
        """Make sure that all of these cells can be rebuilt.

        Raises:
            IntegrityError: There is too little parity.
        """
        lacking = 0
        for row, blocks in bad.items():
            good = sum(
                part.read_cell(row, number) is not None
                for part in self._parts
                for number in range(part.head.count)
            )
            lacking = max(lacking, len(blocks) - good)
        if lacking > 0:
            most = max(map(len, bad.values()))
            raise IntegrityError(
                f"{most} of {self.grid.blocks} parts of the bundle are lost or damaged, and there is parity for "
                f"{most - lacking} of them; nothing was changed",
                hint="name more parity files with --parity FILE, or bring some of the lost volumes again",
            )

    def count_good(self, bad: Cells) -> list[int]:
        """Return of how many cells each file is good."""
        cell_bytes = self.grid.cell_bytes
        counts = [
            -(-file.size_bytes // cell_bytes) if self.run.length_of(number) is not None else 0
            for number, file in enumerate(self.run.files)
        ]
        for number in self.list_owners(bad):
            if counts[number]:
                counts[number] -= 1
        return counts

    def list_identities(self) -> list[tuple[int, int]]:
        """Return what tells each open file, of the bundle and of its parity, from all others."""
        own = [self.run.identify(number) for number in range(len(self.run.files))]
        return [found for found in (*own, *(part.identity for part in self._parts)) if found is not None]

    def check_identity(self) -> None:
        """Refuse parity of another bundle than what is there says that it is, or of another split of it.

        Raises:
            FormatError: It is.
        """
        for number, path in enumerate(self.run.paths):
            if self.run.length_of(number) is None:
                continue
            header = self._read_header(number)
            found = header.digest if header else _read_digest(path)
            if found is not None and found != self.head.digest:
                raise FormatError(
                    f"{path} is of bundle {found}, and the parity is of {self.head.digest}; nothing was changed",
                    hint="name the parity that was made of this bundle with --parity FILE, or move the file away",
                )
            if header is not None and not self._is_of_split(header):
                raise FormatError(
                    f"{path} is one of {header.count} volumes, and the parity is of a split of the bundle into "
                    f"{len(self.run.files)} of other lengths; nothing was changed",
                    hint="name the parity that was made of these volumes with --parity FILE, or move the others away",
                )

    def _read_header(self, number: int) -> VolumeHeader | None:
        """Return the header that a file begins with, whatever has become of the rest; None if it has none."""
        head = memoryview(bytearray(VOLUME_HEAD_BYTES))
        if not self.run.read_into(number, 0, head):
            return None
        try:
            return parse_volume_head(bytes(head)) if is_volume_head(bytes(head)) else None
        except FormatError:
            return None

    def _is_of_split(self, header: VolumeHeader) -> bool:
        files = self.run.files
        # Volumes that were joined are one file.
        lengths = {file.size_bytes for file in files}
        return len(files) == 1 or (header.count == len(files) and header.part_bytes + VOLUME_HEAD_BYTES in lengths)

    def rebuild_row(self, row: int, blocks: Sequence[int]) -> dict[int, bytes]:
        """Return the cells of `blocks` in one row; all others of the files are good.

        Raises:
            IntegrityError: The good ones are not enough, or what comes out is not what it was.
        """
        grid = self.grid
        self._row = self._row or bytearray(grid.blocks * grid.cell_bytes)
        cells: dict[int, bytes | memoryview] = {}
        for block in range(grid.blocks):
            # Found good before; what has become of it since shows below.
            if block not in blocks:
                room = memoryview(self._row)[block * grid.cell_bytes : (block + 1) * grid.cell_bytes]
                if self.run.read_cell(self.grid.place(row, block), room):
                    cells[block] = room
        are_all_read = len(cells) == grid.blocks - len(blocks)
        for part in self._parts:
            for number in range(part.head.count):
                if len(cells) < grid.blocks + _SPARE and (found := part.read_cell(row, number)) is not None:
                    cells[grid.blocks + part.head.first + number] = found
        rebuilt: dict[int, list[memoryview]] = {block: [] for block in blocks}
        # Each byte of a string is coded by itself, so several columns are decoded as one.
        width = grid.column_bytes * grid.columns_at_once
        for start in range(0, grid.cell_bytes, width):
            length = min(width, grid.cell_bytes - start)
            strings = {number: memoryview(cell)[start : start + length] for number, cell in cells.items()}
            try:
                data = memoryview(decode(strings, grid.blocks, length))
            except IntegrityError as error:
                if are_all_read:
                    raise
                raise self._explain_change() from error
            for block, pieces in rebuilt.items():
                pieces.append(data[block * length : (block + 1) * length])
        whole = {block: b"".join(pieces) for block, pieces in rebuilt.items()}
        if any(hash_cell(cell) != self.head.data_digest(row, block) for block, cell in whole.items()):
            raise IntegrityError(
                "what parity gives is not what it says itself, or a file is changing; nothing was changed"
            )
        return whole

    def _explain_change(self) -> IntegrityError:
        return IntegrityError(
            f"{self.run.paths[0]}: became shorter, or cannot be read any more, while it was being rebuilt; nothing was "
            "changed",
            hint="run the same command again when nothing else writes there",
        )


def _read_digest(path: Path) -> str | None:
    """Return the digest that a bundle says it has; None where it is so damaged that it does not say."""
    try:
        return read_digest(path)
    except BundleError:
        return None


@contextmanager
def open_protection(
    base: Path,
    parity: Sequence[Path],
    *,
    places: Sequence[Path] = (),
    copy: int | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Iterator[Protection]:
    """Open files of a bundle, and parity of it: those of the first that can be read.

    Args:
        base: The bundle's name, without a volume's number.
        parity: Files of parity; those that are damaged, or of another bundle, are passed over.
        places: Files of the bundle that are in other folders than `base`.
        copy: As of `bundler.parity.protected.FileRun`.
        on_note: Told what was passed over.

    Raises:
        FormatError: None of `parity` can be used, or it is of another bundle than what is there says.
    """
    with ExitStack() as opened:
        parts = _open_parity(parity, opened, on_note)
        head = parts[0].head
        run = opened.enter_context(FileRun(base, head.files, head.grid.cell_bytes, places, copy))
        protection = Protection(run, parts)
        if copy is None:
            protection.check_identity()
        yield protection


def _open_parity(paths: Sequence[Path], opened: ExitStack, on_note: Callable[[str], None]) -> list[ParityFile]:
    parts: list[ParityFile] = []
    for path in paths:
        try:
            part = ParityFile(path)
        except FormatError as error:
            on_note(f"{error.message}; passed over")
            continue
        opened.callback(part.close)
        if parts and _identity(part) != _identity(parts[0]):
            on_note(f"{path}: is parity of another bundle than {parts[0].path}; passed over")
            continue
        parts.append(part)
    if not parts:
        named = ", ".join(map(str, paths)) or "none"
        raise FormatError(
            f"expected parity of the bundle, found {named}", hint="name the parity files with --parity FILE"
        )
    return parts


def _identity(part: ParityFile) -> object:
    return part.head.digest, part.head.files, part.head.grid, part.head.data_digests


@lru_cache(maxsize=1)
def _hash_zeros(size_bytes: int) -> bytes:
    return hash_cell(bytes(size_bytes))
