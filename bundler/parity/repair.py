"""Rebuild files of a bundle that are lost or damaged, from what is good of them and from parity.

Rule book:

* nothing is changed before the bundle, with what was rebuilt in its place, has the digest that the parity names, and
  each of its bytes is what that digest stands for; and never a file that says it is of another bundle. So parity that
  lies, or is old, can spoil nothing. Nothing is decoded for that: whoever installs the bundle does. Where nothing was
  wrong all of it is decoded and verified: nobody looks at it again after that;
* of a damaged file only what is damaged is written over. Each write makes one cell good, and a good one is never
  written to: so whatever ends a repair leaves the file no worse than it was, and the next one goes on. What is good is
  neither copied nor needs room a second time, in a file of a hundred gigabytes as in a short one;
* a file that is missing, that may not be written to, or that goes elsewhere, is written whole under a temporary name,
  and has its own when all is verified;
* names come from the bundle that was asked for, not from a parity file;
* whether it can be done is known before anything is written.
"""

from __future__ import annotations

import os
import tempfile
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
from bundler.format.storage.stored import OneFile, Stored
from bundler.format.storage.volumes import open_stored
from bundler.parity.protected import write_at
from bundler.parity.protection import Cells, Protection, open_protection
from bundler.parity.rebuilt_file import RebuiltFile, Spool
from bundler.text.wording import and_more
from bundler.verify.bundle_file import verify_bundle
from bundler.verify.stored import verify_stored

_HINT = "name another folder with --output"


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
        SpaceError: There is no room for what is rebuilt. Nothing was changed, or what was is right.
        UsageError: In `output` is a file of that name already.
    """
    with open_protection(base, parity, on_note=on_note) as protection, ExitStack() as opened:
        run, head = protection.run, protection.head
        on_total(head.grid.size_bytes)
        bad = protection.find_bad(progress)
        wrong = sorted(protection.list_files(bad))
        if not wrong:
            _verify_whole(run.paths, head.digest, jobs)
            return Repaired((), (), 0, head.digest)
        protection.check_enough(bad)
        targets = {number: _choose_target(run.paths[number], output) for number in wrong}
        missing = tuple(run.paths[number] for number in wrong if run.length_of(number) is None)
        for folder in {target.parent for target in targets.values()}:
            # As long as the bundle, each.
            remove_leftovers(folder, now=time.time(), below=False)
        mended = {} if output else _open_in_place(protection, targets, opened)
        _Repair(protection, bad, targets, mended).run(jobs)
        rebuilt_bytes = sum(map(len, bad.values())) * head.grid.cell_bytes
        return Repaired(tuple(targets.values()), missing, rebuilt_bytes, head.digest)


def _choose_target(path: Path, output: Path | None) -> Path:
    if output is None:
        return path.resolve()
    target = output / path.name
    if os.path.lexists(target):
        raise UsageError(f"{target} is there already, and is not replaced", hint=_HINT)
    return target


def _open_in_place(protection: Protection, targets: dict[int, Path], opened: ExitStack) -> dict[int, int]:
    """Return descriptors, by their numbers, of the files that can be written to where they are."""
    found = {}
    for number, target in targets.items():
        try:
            descriptor = os.open(target, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue  # Missing, or closed to this user, who may replace it all the same.
        opened.callback(os.close, descriptor)
        if protection.run.is_same_file(number, descriptor):
            found[number] = descriptor
    return found


class _Repair:
    """One repair of files that are known to be wrong.

    Args:
        protection: The files and their parity.
        bad: Cells to rebuild.
        targets: Number of a file -> where it goes.
        mended: Number of a file -> its descriptor, for those that are written to in place.
    """

    def __init__(
        self, protection: Protection, bad: Cells, targets: dict[int, Path], mended: dict[int, int]
    ) -> None:
        self._protection, self._bad = protection, bad
        self._targets, self._mended = targets, mended
        self._folder = targets[min(targets)].parent

    def run(self, jobs: int | None) -> None:
        """Rebuild, verify, and change the files.

        Raises:
            IntegrityError: It would not be the bundle; nothing was changed.
            SpaceError: The disk is full.
        """
        self._check_room()
        whole = [number for number in self._targets if number not in self._mended]
        full = report_full_disk(
            self._folder, f"{self._folder}: the file system is full; nothing was changed", hint=_HINT
        )
        with ExitStack() as undo:
            with full:
                spool = Spool(self._open_spool(undo), self._protection.grid.cell_bytes)
                temporary = {number: temporary_path(self._targets[number].parent) for number in whole}
                for place in temporary.values():
                    undo.callback(place.unlink, missing_ok=True)
                self._rebuild(temporary, spool)
            self._verify(temporary, spool, jobs)
            for number, descriptor in self._mended.items():
                self._mend(number, descriptor, spool)
            for number, place in temporary.items():
                place.replace(self._targets[number])
            for folder in sorted({self._targets[number].parent for number in whole}):
                fsync_dir(folder)

    def _check_room(self) -> None:
        run, grid = self._protection.run, self._protection.grid
        needs: dict[Path, int] = defaultdict(int)
        for number, target in self._targets.items():
            if number not in self._mended:
                needs[target.parent] += run.files[number].size_bytes
        for row, blocks in self._bad.items():
            for block in blocks:
                found = run.locate(grid.place(row, block), grid.cell_bytes)
                if found is not None and found[0] in self._mended:
                    needs[self._folder] += grid.cell_bytes
        check_room(needs, hint=_HINT)

    def _open_spool(self, opened: ExitStack) -> int:
        """Open a file without a name, where the bundle is or, if nothing may be written there, for temporary files."""
        folder = self._folder if os.access(self._folder, os.W_OK) else None
        return opened.enter_context(tempfile.TemporaryFile(dir=folder)).fileno()

    def _rebuild(self, temporary: dict[int, Path], spool: Spool) -> None:
        """Write files that are written whole, and what is rebuilt of the others into the spool."""
        protection = self._protection
        run, grid = protection.run, protection.grid
        places_of_bad = sorted(
            protection.grid.place(row, block) for row, blocks in self._bad.items() for block in blocks
        )
        with ExitStack() as opened:
            descriptors = {}
            for number, place in temporary.items():
                descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                opened.callback(os.close, descriptor)
                descriptors[number] = descriptor
                os.fchmod(descriptor, run.mode)
                os.truncate(descriptor, run.files[number].size_bytes)
                for offset, count in run.list_between(number, places_of_bad, grid.cell_bytes):
                    if not run.copy(number, descriptor, offset, count):
                        raise IntegrityError(f"{run.paths[number]}: changed while it was being repaired")
            for row, blocks in self._bad.items():
                for block, content in protection.rebuild_row(row, blocks).items():
                    place_in_run = protection.grid.place(row, block)
                    found = run.locate(place_in_run, grid.cell_bytes)
                    if found is None:
                        continue
                    number, offset, count = found
                    if number in descriptors:
                        write_at(descriptors[number], memoryview(content)[:count], offset)
                    else:
                        spool.add(place_in_run, content)
            for descriptor in descriptors.values():
                os.fsync(descriptor)

    def _verify(self, temporary: dict[int, Path], spool: Spool, jobs: int | None) -> None:
        """Verify that all bytes, as they will be, are those of the bundle that the parity is of."""
        run, digest = self._protection.run, self._protection.head.digest
        numbers = {path: number for number, path in enumerate(run.paths)}

        def open_file(path: Path) -> Stored:
            number = numbers[path]
            return OneFile(temporary[number]) if number in temporary else RebuiltFile(run, number, spool)

        with BundleReader(open_stored(run.paths, open_file)) as reader:
            if reader.digest != digest:
                raise _explain_wrong([f"expected bundle {digest}, found {reader.digest}"])
            try:
                verify_stored(reader, jobs=jobs or available_cores())
            except DamagedError as error:
                raise _explain_wrong([error.message]) from error

    def _mend(self, number: int, descriptor: int, spool: Spool) -> None:
        """Write what was rebuilt over what is damaged of a file."""
        run, target = self._protection.run, self._targets[number]
        start, length = run.starts[number], run.files[number].size_bytes
        full = report_full_disk(
            target, f"{target}: the file system is full; what is repaired of it so far is right", hint=_HINT
        )
        try:
            with full:
                for place in spool.list_places(start, start + length):
                    offset = place - start
                    write_at(descriptor, memoryview(spool.read(place))[: length - offset], offset)
                os.truncate(descriptor, length)
                os.fsync(descriptor)
        except OSError as error:
            error.filename = str(target)
            raise


def _verify_whole(paths: Sequence[Path], digest: str, jobs: int | None) -> None:
    """Decode and verify all of a bundle.

    Raises:
        FormatError: It is no bundle, or not all of one.
        IntegrityError: It is not right, or another one.
    """
    with BundleReader(paths[0] if len(paths) == 1 else paths) as reader:
        faults = [] if reader.digest == digest else [f"expected bundle {digest}, found {reader.digest}"]
        faults += map(str, verify_bundle(reader, jobs=jobs or available_cores()).faults)
    if faults:
        raise _explain_wrong(faults)


def _explain_wrong(faults: Sequence[str]) -> IntegrityError:
    return IntegrityError(
        f"with what parity gives the bundle does not verify: {'; '.join(and_more(faults, shown=3))}; nothing was "
        "changed",
        hint="the parity is of another bundle, or a file changed before it was made, or just now",
    )
