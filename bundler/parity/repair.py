"""Rebuild files of a bundle that are lost or damaged, from what is good of them and from parity.

Rule book:

* a file is replaced only when the bundle, with what was rebuilt in its place, has the digest that the parity names, and
  each of its bytes is what that digest stands for; and never one that says it is of another bundle. So parity that
  lies, or is old, can spoil nothing. Nothing is decoded for that: whoever installs the bundle does. Where nothing was
  wrong all of it is decoded and verified: nobody looks at it again after that;
* names come from the bundle that was asked for, not from a parity file;
* what is rebuilt is written beside, under a temporary name: until then every file stays as it is;
* whether it can be done is known before anything is written.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import DamagedError, IntegrityError, UsageError
from bundler.files.atomic import fsync_dir, temporary_path
from bundler.files.leftovers import remove_leftovers
from bundler.files.parallel import available_cores
from bundler.files.space import check_room, report_full_disk
from bundler.format.reader import BundleReader
from bundler.parity.protection import Cells, Protection, open_protection
from bundler.text.wording import and_more
from bundler.verify.bundle_file import verify_bundle
from bundler.verify.stored import verify_stored


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
    with open_protection(base, parity, on_note=on_note) as protection:
        run, head = protection.run, protection.head
        on_total(head.grid.size_bytes)
        bad = protection.find_bad(progress)
        wrong = protection.list_files(bad)
        if not wrong:
            _verify(run.paths, head.digest, jobs, decode=True)
            return Repaired((), (), 0, head.digest)
        protection.check_enough(bad)
        targets = {number: _choose_target(run.paths[number], output) for number in sorted(wrong)}
        needs: dict[Path, int] = defaultdict(int)
        for number, target in targets.items():
            needs[target.parent] += head.files[number].size_bytes
        for folder in needs:
            # As long as the bundle, each.
            remove_leftovers(folder, now=time.time(), below=False)
        check_room(needs, hint="name another folder with --output")
        missing = tuple(run.paths[number] for number in targets if run.length_of(number) is None)
        _replace(protection, bad, targets, jobs)
        rebuilt_bytes = sum(map(len, bad.values())) * head.grid.cell_bytes
        return Repaired(tuple(targets.values()), missing, rebuilt_bytes, head.digest)


def _choose_target(path: Path, output: Path | None) -> Path:
    if output is None:
        return path.resolve()
    target = output / path.name
    if os.path.lexists(target):
        raise UsageError(
            f"{target} is there already, and is not replaced", hint="name another folder with --output"
        )
    return target


def _replace(protection: Protection, bad: Cells, targets: dict[int, Path], jobs: int | None) -> None:
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
        _rebuild(protection, bad, temporary)
        paths = [temporary.get(number, path) for number, path in enumerate(protection.run.paths)]
        _verify(paths, protection.head.digest, jobs, decode=False)
        for number, place in temporary.items():
            place.replace(targets[number])
        for folder in folders:
            fsync_dir(folder)


def _rebuild(protection: Protection, bad: Cells, places: dict[int, Path]) -> None:
    """Write all of the files whose numbers `places` has: what is good of them, and what is rebuilt."""
    run, grid = protection.run, protection.grid
    with ExitStack() as opened:
        descriptors = {}
        for number, place in places.items():
            descriptors[number] = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            opened.callback(os.close, descriptors[number])
            os.fchmod(descriptors[number], run.mode)
            os.truncate(descriptors[number], run.files[number].size_bytes)
        places_of_bad = sorted(protection.place(row, block) for row, blocks in bad.items() for block in blocks)
        for number, descriptor in descriptors.items():
            for offset, count in run.list_between(number, places_of_bad, grid.cell_bytes):
                if not run.copy(number, descriptor, offset, count):
                    raise IntegrityError(f"{run.paths[number]}: changed while it was being repaired")
        for row, blocks in bad.items():
            cells = protection.rebuild_row(row, blocks)
            for block in blocks:
                found = run.locate(protection.place(row, block), grid.cell_bytes)
                if found is not None and found[0] in descriptors:
                    number, offset, count = found
                    os.pwrite(descriptors[number], cells[block][:count], offset)
        for descriptor in descriptors.values():
            os.fsync(descriptor)


def _verify(paths: Sequence[Path], digest: str, jobs: int | None, *, decode: bool) -> None:
    """Verify that all bytes are those of the bundle with this digest.

    Args:
        paths: The bundle's files.
        digest: What it should be.
        jobs: Threads; None for all cores.
        decode: Whether to verify the content, too.

    Raises:
        FormatError: It is no bundle, or not all of one.
        IntegrityError: It is not right, or another one.
    """
    with BundleReader(paths[0] if len(paths) == 1 else paths) as reader:
        faults = [] if reader.digest == digest else [f"expected bundle {digest}, found {reader.digest}"]
        if decode:
            faults += map(str, verify_bundle(reader, jobs=jobs or available_cores()).faults)
        elif not faults:
            try:
                verify_stored(reader, jobs=jobs or available_cores())
            except DamagedError as error:
                faults = [error.message]
    if faults:
        raise IntegrityError(
            f"with what parity gives the bundle does not verify: {'; '.join(and_more(faults, shown=3))}; nothing was "
            "changed",
            hint="the parity is of another bundle, or a file changed before it was made, or just now",
        )
