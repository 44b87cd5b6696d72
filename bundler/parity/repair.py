"""Rebuild files of a bundle that are lost or damaged, from what is good of them and from parity.

Rule book:

* nothing is changed before the bundle, with what was rebuilt in its place, has the digest that the parity names, and
  each of its bytes is what that digest stands for; and never a file that says it is of another bundle. So parity that
  lies, or is old, can spoil nothing. Nothing is decoded for that: whoever installs the bundle does. Where nothing was
  wrong all of it is decoded and verified: nobody looks at it again after that;
* of a damaged file only what is damaged is written over. Each write makes one cell good, and a good one is never
  written to: so whatever ends a repair leaves the file no worse than it was, and the next one goes on. What is good is
  neither copied nor needs room a second time, in a file of a hundred gigabytes as in a short one;
* a file that is missing, that cannot be written to where it is (`bundler.parity.targets`), or that goes elsewhere, is
  written whole under a temporary name, and has its own when all is verified;
* names come from the bundle that was asked for, not from a parity file;
* whether it can be done is known before anything is written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import DamagedError, IntegrityError
from bundler.files.atomic import fsync_dir, temporary_path
from bundler.files.leftovers import remove_leftovers
from bundler.files.parallel import available_cores
from bundler.files.space import check_room, report_full_disk
from bundler.format.reader import BundleReader
from bundler.format.storage.stored import OneFile, Stored
from bundler.format.storage.volumes import open_stored, volumes_in
from bundler.parity.protected import write_at
from bundler.parity.protection import Cells, Protection, open_protection
from bundler.parity.rebuilt_file import RebuiltFile, Spool
from bundler.parity.targets import OUTPUT_HINT, Target, choose_elsewhere, choose_in_place
from bundler.text.wording import and_more
from bundler.verify.bundle_file import verify_bundle
from bundler.verify.stored import verify_stored
from bundler.verify.volume import verify_volume

_UNCHANGED = "nothing was changed"


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
        on_note: Told of each file of parity that is passed over, and of links that are replaced.

    Raises:
        DependencyError: The package for the code is not installed.
        FormatError: None of `parity` can be used, or what is there is of another bundle. Nothing was changed.
        IntegrityError: Too much is lost; or what was rebuilt is not the bundle. Nothing was changed.
        SpaceError: There is no room for what is rebuilt. Nothing was changed, or what was is right.
        UsageError: In `output` is a file of that name already; or something that is no file is in a file's place.
        OSError: A file cannot be read or written.
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
        missing = tuple(run.paths[number] for number in wrong if run.length_of(number) is None)
        targets = (
            choose_elsewhere(protection, wrong, output)
            if output
            else choose_in_place(protection, wrong, bad, opened, on_note)
        )
        for folder in {target.path.parent for target in targets.values()}:
            # As long as the bundle, each.
            remove_leftovers(folder, now=time.time(), below=False)
        _Repair(protection, bad, targets).run(jobs)
        rebuilt_bytes = sum(map(len, bad.values())) * head.grid.cell_bytes
        return Repaired(tuple(target.path for target in targets.values()), missing, rebuilt_bytes, head.digest)


class _Repair:
    """One repair of files that are known to be wrong.

    Args:
        protection: The files and their parity.
        bad: Cells to rebuild.
        targets: Number of a file -> where it goes.
    """

    def __init__(self, protection: Protection, bad: Cells, targets: dict[int, Target]) -> None:
        self._protection, self._bad = protection, bad
        self._mended = {n: target.descriptor for n, target in targets.items() if target.descriptor is not None}
        self._whole = [number for number in targets if number not in self._mended]
        self._paths = {number: target.path for number, target in targets.items()}

    def run(self, jobs: int | None) -> None:
        """Rebuild, verify, and change the files.

        Raises:
            IntegrityError: It would not be the bundle, and nothing was changed; or a file went away meanwhile.
            SpaceError: A disk is full.
            OSError: A file cannot be written.
        """
        spooled = self._count_spooled()
        needs: dict[Path, int] = defaultdict(int)
        for number in self._whole:
            needs[self._paths[number].parent] += self._protection.run.files[number].size_bytes
        for number in self._mended:
            needs[self._paths[number].parent] += self._count_growth(number)
        folder = self._choose_folder(spooled)
        needs[folder] += spooled
        check_room(needs, hint=OUTPUT_HINT)
        with ExitStack() as undo, tempfile.TemporaryFile(dir=folder) as file:
            temporary = {number: temporary_path(self._paths[number].parent) for number in self._whole}
            for place in temporary.values():
                undo.callback(place.unlink, missing_ok=True)
            spool = Spool(file.fileno(), self._protection.grid.cell_bytes)
            self._copy_good(temporary)
            self._rebuild(temporary, spool, folder)
            self._verify(temporary, spool, jobs)
            for number, place in temporary.items():
                with _at(self._paths[number], _UNCHANGED):
                    place.replace(self._paths[number])
            for parent in sorted({self._paths[number].parent for number in self._whole}):
                fsync_dir(parent)
            for number, descriptor in self._mended.items():
                self._mend(number, descriptor, spool)

    def _count_spooled(self) -> int:
        """Return how many bytes are kept until they are written over what is damaged."""
        owners = self._protection.list_owners(self._bad)
        return self._protection.grid.cell_bytes * sum(number in self._mended for number in owners)

    def _count_growth(self, number: int) -> int:
        """Return by how much a file that was cut becomes longer."""
        return max(
            0, self._protection.run.files[number].size_bytes - (self._protection.run.length_of(number) or 0)
        )

    def _choose_folder(self, size_bytes: int) -> Path:
        """Return where the spool goes: beside the bundle, or where temporary files go if that cannot be."""
        beside, other = self._paths[min(self._paths)].parent, Path(tempfile.gettempdir())
        has_room = os.access(beside, os.W_OK | os.X_OK) and shutil.disk_usage(beside).free >= size_bytes
        return beside if has_room else other

    def _copy_good(self, temporary: dict[int, Path]) -> None:
        """Make the files that are written whole, of what is good of them."""
        run, grid = self._protection.run, self._protection.grid
        places = sorted(grid.place(row, block) for row, blocks in self._bad.items() for block in blocks)
        for number, place in temporary.items():
            with _at(self._paths[number], _UNCHANGED):
                descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb", buffering=0):
                    os.truncate(descriptor, run.files[number].size_bytes)
                    for offset, count in run.list_between(number, places, grid.cell_bytes):
                        if not run.copy(number, descriptor, offset, count):
                            raise IntegrityError(
                                f"{run.paths[number]}: changed while it was being repaired; nothing was changed"
                            )

    def _rebuild(self, temporary: dict[int, Path], spool: Spool, folder: Path) -> None:
        """Write what is rebuilt into the files that are written whole, and of the others into the spool."""
        run, grid = self._protection.run, self._protection.grid
        with ExitStack() as opened:
            files = {number: opened.enter_context(place.open("r+b", 0)) for number, place in temporary.items()}
            for row, blocks in self._bad.items():
                for block, content in self._protection.rebuild_row(row, blocks).items():
                    place = grid.place(row, block)
                    number, offset, count = run.locate(place, grid.cell_bytes) or (-1, 0, 0)
                    if number in files:
                        with _at(self._paths[number], _UNCHANGED):
                            write_at(files[number].fileno(), memoryview(content)[:count], offset)
                    elif number >= 0:
                        with _at(folder, _UNCHANGED):
                            spool.add(place, content)
            for number, file in files.items():
                with _at(self._paths[number], _UNCHANGED):
                    os.fchmod(file.fileno(), run.mode)
                    os.fsync(file.fileno())

    def _verify(self, temporary: dict[int, Path], spool: Spool, jobs: int | None) -> None:
        """Verify that all bytes, as they will be, are those of the bundle that the parity is of."""
        run, digest = self._protection.run, self._protection.head.digest
        numbers = {path: number for number, path in enumerate(run.paths)}

        def open_file(path: Path) -> Stored:
            number = numbers[path]
            return OneFile(temporary[number]) if number in temporary else RebuiltFile(run, number, spool)

        with BundleReader(open_stored(run.paths, open_file)) as reader:
            faults = [] if reader.digest == digest else [f"expected bundle {digest}, found {reader.digest}"]
            try:
                verify_stored(reader, jobs=jobs or available_cores())
            except DamagedError as error:
                faults.append(error.message)
        # The digest in a volume's header is not the bundle's.
        for number in self._paths:
            for volume in volumes_in(run.paths[number], open_file):
                faults += map(str, verify_volume(volume, open_file=open_file).faults)
        if faults:
            raise _explain_wrong(faults)

    def _mend(self, number: int, descriptor: int, spool: Spool) -> None:
        """Write what was rebuilt over what is damaged of a file."""
        run, path = self._protection.run, self._paths[number]
        start, length = run.starts[number], run.files[number].size_bytes
        with _at(path, "what is repaired so far is right"):
            for place in spool.list_places(start, start + length):
                offset = place - start
                write_at(descriptor, memoryview(spool.read(place))[: length - offset], offset)
            os.truncate(descriptor, length)
            os.fsync(descriptor)
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise IntegrityError(
                    f"{path}: was replaced by another file while it was being repaired; that one is as it was",
                    hint="run the same command again",
                )


@contextmanager
def _at(path: Path, state: str) -> Iterator[None]:
    """Say of an error of the system in the block which file it is about, and what was done if the disk is full."""
    try:
        with report_full_disk(path, f"{path}: the file system is full; {state}", hint=OUTPUT_HINT):
            yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
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
