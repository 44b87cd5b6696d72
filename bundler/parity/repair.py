"""Rebuild files of a bundle that are lost or damaged, from what is good of them and from parity.

Rule book:

* a file is replaced only when the whole bundle, with what was rebuilt in its place, verifies, and has the digest that
  the parity names; and never one that says it is of another bundle. So parity that lies, or is old, can spoil nothing;
* names come from the bundle that was asked for, not from a parity file;
* what is rebuilt is written beside, under a temporary name: until then every file stays as it is;
* whether it can be done is known before anything is written.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import BundleError, FormatError, IntegrityError, UsageError
from bundler.files.atomic import fsync_dir, temporary_path
from bundler.files.parallel import available_cores
from bundler.files.space import check_room, report_full_disk
from bundler.format.find import read_digest
from bundler.format.reader import BundleReader
from bundler.parity.code import decode
from bundler.parity.grid import Grid
from bundler.parity.parity_file import Head, ParityFile, hash_cell
from bundler.parity.protected import FileRun
from bundler.text.wording import and_more
from bundler.verify.bundle_file import verify_bundle

# RaptorQ may need this many strings more than there are blocks.
_SPARE = 3


@dataclass(frozen=True)
class Repaired:
    """What was done.

    Attributes:
        files: What was rebuilt; empty if nothing was wrong.
        missing: Which of these were not there at all.
        rebuilt_bytes: What of them came from parity.
        digest: The bundle's.
    """

    files: tuple[Path, ...]
    missing: tuple[Path, ...]
    rebuilt_bytes: int
    digest: str


def repair(
    base: Path,
    parity: Sequence[Path],
    *,
    output: Path | None = None,
    jobs: int | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda count: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Repaired:
    """Rebuild what is lost or damaged of the files that `parity` protects.

    Args:
        base: The bundle's name, without a volume's number; a link is followed.
        parity: Files of parity; those that are damaged, or of another bundle, are passed over.
        output: Where to write what is rebuilt; default where they are, in place of what is damaged.
        jobs: Threads that verify; default all cores.
        on_total: Called once with the number of bytes that `progress` will add up to.
        progress: Called with the number of bytes looked at since the last call.
        on_note: Told of each file of parity that is passed over.

    Raises:
        DependencyError: The package for the code is not installed.
        FormatError: None of `parity` can be used, or what is there is of another bundle. Nothing was changed.
        IntegrityError: Too much is lost; or what was rebuilt is not the bundle. Nothing was changed.
        SpaceError: There is no room for what is rebuilt; nothing was changed.
        UsageError: In `output` is a file of that name already.
    """
    with ExitStack() as opened:
        parts = _open_parity(parity, opened, on_note)
        head = parts[0].head
        run = opened.enter_context(FileRun(base, head.files, head.grid.cell_bytes))
        _check_identity(run, head)
        on_total(head.grid.size_bytes)
        bad = _find_bad(run, parts[0], progress)
        wrong = {number for number, file in enumerate(head.files) if run.length_of(number) != file.size_bytes}
        wrong |= {
            found[0]
            for row, blocks in bad.items()
            for block in blocks
            if (found := run.locate(_place(head.grid, row, block), head.grid.cell_bytes))
        }
        if not wrong:
            return Repaired((), (), 0, _verify(run.paths, head.digest, jobs))
        _check_enough(bad, parts)
        targets = {number: _choose_target(run.paths[number], output) for number in sorted(wrong)}
        needs: dict[Path, int] = defaultdict(int)
        for number, target in targets.items():
            needs[target.parent] += head.files[number].size_bytes
        check_room(needs, hint="name another folder with --output")
        missing = tuple(run.paths[number] for number in targets if run.length_of(number) is None)
        digest = _replace(run, parts, bad, targets, jobs)
        return Repaired(
            tuple(targets.values()), missing, sum(map(len, bad.values())) * head.grid.cell_bytes, digest
        )


def _check_identity(run: FileRun, head: Head) -> None:
    """Refuse parity of another bundle than what is there says that it is."""
    for number, path in enumerate(run.paths):
        if run.length_of(number) is None:
            continue
        try:
            found = read_digest(path)
        except BundleError:
            continue  # So damaged that it does not say.
        if found != head.digest:
            raise FormatError(
                f"{path} is of bundle {found}, and the parity is of {head.digest}; nothing was changed",
                hint="name the parity that was made of this bundle with --parity FILE, or move the file away",
            )


def _choose_target(path: Path, output: Path | None) -> Path:
    if output is None:
        return path.resolve()
    target = output / path.name
    if os.path.lexists(target):
        raise UsageError(
            f"{target} is there already, and is not replaced", hint="name another folder with --output"
        )
    return target


def _replace(
    run: FileRun,
    parts: Sequence[ParityFile],
    bad: dict[int, list[int]],
    targets: dict[int, Path],
    jobs: int | None,
) -> str:
    """Rebuild files, by their numbers, and give them their names if the bundle verifies then."""
    folders = sorted({target.parent for target in targets.values()})
    full = report_full_disk(
        folders[0],
        f"{folders[0]}: the file system is full; nothing was changed",
        hint="name another folder with --output",
    )
    with full, ExitStack() as undo:
        temporary = {}
        for number, target in targets.items():
            temporary[number] = temporary_path(target.parent)
            undo.callback(temporary[number].unlink, missing_ok=True)
        _rebuild(run, parts, bad, temporary)
        paths = [temporary.get(number, path) for number, path in enumerate(run.paths)]
        digest = _verify(paths, parts[0].head.digest, jobs)
        for number, place in temporary.items():
            place.replace(targets[number])
        for folder in folders:
            fsync_dir(folder)
    return digest


def _open_parity(paths: Sequence[Path], opened: ExitStack, on_note: Callable[[str], None]) -> list[ParityFile]:
    """Open files of parity of one and the same bundle: those of the first that can be read."""
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


def _place(grid: Grid, row: int, block: int) -> int:
    return block * grid.block_bytes + row * grid.cell_bytes


def _read_good(run: FileRun, part: ParityFile, row: int, block: int) -> bytes | None:
    """Return a cell of the files; None if it is damaged."""
    grid = part.head.grid
    content = run.read_at(_place(grid, row, block), grid.cell_bytes)
    return content if content is not None and hash_cell(content) == part.head.data_digest(row, block) else None


def _find_bad(run: FileRun, part: ParityFile, progress: Callable[[int], None]) -> dict[int, list[int]]:
    """Return row -> blocks whose cells are damaged; of a file that was cut, also those past its end."""
    grid = part.head.grid
    bad: dict[int, list[int]] = defaultdict(list)
    # Block by block: that is the order in which they are on the disk.
    for block in range(grid.blocks):
        for row in range(grid.rows):
            if _read_good(run, part, row, block) is None:
                bad[row].append(block)
        progress(min(grid.block_bytes, grid.size_bytes - block * grid.block_bytes))
    return bad


def _check_enough(bad: dict[int, list[int]], parts: Sequence[ParityFile]) -> None:
    lacking = 0
    for row, blocks in bad.items():
        good = sum(part.read_cell(row, number) is not None for part in parts for number in range(part.head.count))
        lacking = max(lacking, len(blocks) - good)
    if lacking > 0:
        grid = parts[0].head.grid
        most = max(map(len, bad.values()))
        raise IntegrityError(
            f"{most} of {grid.blocks} parts of the bundle are lost or damaged, and there is parity for "
            f"{most - lacking} of them; nothing was changed",
            hint="name more parity files with --parity FILE, or bring some of the lost volumes again",
        )


def _rebuild(
    run: FileRun, parts: Sequence[ParityFile], bad: dict[int, list[int]], places: dict[int, Path]
) -> None:
    """Write all of the files whose numbers `places` has: what is good of them, and what is rebuilt."""
    head = parts[0].head
    with ExitStack() as opened:
        descriptors = {}
        for number, place in places.items():
            descriptors[number] = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            opened.callback(os.close, descriptors[number])
            os.fchmod(descriptors[number], run.mode)
            os.truncate(descriptors[number], head.files[number].size_bytes)
        for row in range(head.grid.rows):
            rebuilt = _rebuild_row(run, parts, row, bad[row]) if row in bad else {}
            for block in range(head.grid.blocks):
                position = _place(head.grid, row, block)
                found = run.locate(position, head.grid.cell_bytes)
                if found is None or found[0] not in places:
                    continue
                number, offset, count = found
                content = rebuilt.get(block) or _read_good(run, parts[0], row, block)
                if content is None:
                    raise IntegrityError(f"{run.paths[number]}: changed while it was being repaired")
                os.pwrite(descriptors[number], memoryview(content)[:count], offset)
        for descriptor in descriptors.values():
            os.fsync(descriptor)


def _rebuild_row(run: FileRun, parts: Sequence[ParityFile], row: int, blocks: Sequence[int]) -> dict[int, bytes]:
    """Return the cells of `blocks` in one row."""
    head = parts[0].head
    grid = head.grid
    cells: dict[int, bytes] = {}
    for block in range(grid.blocks):
        if block not in blocks and (good := _read_good(run, parts[0], row, block)) is not None:
            cells[block] = good
    for part in parts:
        for number in range(part.head.count):
            if len(cells) < grid.blocks + _SPARE and (found := part.read_cell(row, number)) is not None:
                cells[grid.blocks + part.head.first + number] = found
    rebuilt: dict[int, list[memoryview]] = {block: [] for block in blocks}
    for column in range(grid.columns):
        start, stop = column * grid.column_bytes, (column + 1) * grid.column_bytes
        strings = {number: memoryview(cell)[start:stop] for number, cell in cells.items()}
        data = memoryview(decode(strings, grid.blocks, grid.column_bytes))
        for block, pieces in rebuilt.items():
            pieces.append(data[block * grid.column_bytes : (block + 1) * grid.column_bytes])
    whole = {block: b"".join(pieces) for block, pieces in rebuilt.items()}
    if any(hash_cell(cell) != head.data_digest(row, block) for block, cell in whole.items()):
        raise IntegrityError("what parity gives is not what it says itself; nothing was changed")
    return whole


def _verify(paths: Sequence[Path], digest: str, jobs: int | None) -> str:
    """Verify the whole bundle, and return its digest.

    Raises:
        FormatError: It is no bundle, or not all of one.
        IntegrityError: It is not right, or another one.
    """
    with BundleReader(paths[0] if len(paths) == 1 else paths) as reader:
        report = verify_bundle(reader, jobs=jobs or available_cores())
    faults = [str(fault) for fault in report.faults]
    if report.digest != digest:
        faults.insert(0, f"expected bundle {digest}, found {report.digest}")
    if faults:
        raise IntegrityError(
            f"with what parity gives the bundle does not verify: {'; '.join(and_more(faults, shown=3))}; nothing was "
            "changed",
            hint="the parity is of another bundle, or a file changed before it was made, or just now",
        )
    return digest
