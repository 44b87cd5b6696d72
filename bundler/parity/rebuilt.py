"""Read a bundle as it was, though some of it is lost or damaged: what is bad is taken from a copy that parity gave.

Rule book:

* nothing of the bundle is changed, and only what is rebuilt is stored, in a file without a name in the folder for
  temporary files. So it works on a medium that cannot be written;
* a reader checks what it is given as it checks any bundle: parity is trusted for nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import IntegrityError
from bundler.files.space import check_room, report_full_disk
from bundler.format.reader import BundleReader
from bundler.format.storage.volumes import open_stored
from bundler.parity.protection import open_protection
from bundler.parity.rebuilt_file import RebuiltFile, Spool

_HINT = "point TMPDIR at a folder with more room, or use `bundle repair --output DIR`"


@dataclass(frozen=True)
class Rebuilt:
    """A bundle whose lost and damaged parts were rebuilt beside it.

    Attributes:
        reader: Reads it as it was; good until the block ends that it was opened for.
        files: Files that were damaged or missing; empty if nothing was.
        missing: Which of them were not there at all.
        rebuilt_bytes: What of them came from parity.
    """

    reader: BundleReader
    files: tuple[Path, ...]
    missing: tuple[Path, ...]
    rebuilt_bytes: int


@contextmanager
def open_rebuilt(
    base: Path,
    parity: Sequence[Path],
    *,
    places: Sequence[Path] = (),
    copy: int | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda count: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Iterator[Rebuilt]:
    """Rebuild what is lost or damaged of a bundle, and open it.

    Args:
        base: The bundle's name, without a volume's number; it need not be there.
        parity: Files of parity; those that are damaged, or of another bundle, are passed over.
        places: Files of the bundle that are in other folders than `base`.
        copy: A descriptor of a file with what came of it through a pipe, instead of files.
        on_total: Called once with the number of bytes that `progress` will add up to.
        progress: Called with the number of bytes looked at since the last call.
        on_note: Told which files of parity were passed over.

    Raises:
        FormatError: There is no parity of this bundle; or with what it gives it is still no bundle.
        IntegrityError: There is too little of it; or what it gives is another bundle than it says.
        SpaceError: The folder for temporary files has no room for what is rebuilt.
    """
    with open_protection(base, parity, places=places, copy=copy, on_note=on_note) as protection:
        run, grid = protection.run, protection.grid
        on_total(grid.size_bytes)
        bad = protection.find_bad(progress)
        protection.check_enough(bad)
        count = sum(map(len, bad.values()))
        folder = Path(tempfile.gettempdir())
        check_room({folder: count * grid.cell_bytes}, hint=_HINT)
        with tempfile.TemporaryFile(dir=folder) as spool:
            full = report_full_disk(folder, f"{folder}: no room for what is rebuilt of {base}", hint=_HINT)
            rebuilt = Spool(spool.fileno(), grid.cell_bytes)
            with full:
                for row, blocks in bad.items():
                    for block, content in protection.rebuild_row(row, blocks).items():
                        rebuilt.add(protection.grid.place(row, block), content)
            files = {path: RebuiltFile(run, number, rebuilt) for number, path in enumerate(run.paths)}
            with BundleReader(open_stored(run.paths, files.__getitem__)) as reader:
                if reader.digest != protection.head.digest:
                    raise IntegrityError(f"expected bundle {protection.head.digest}, found {reader.digest}")
                wrong = [run.paths[number] for number in sorted(protection.list_files(bad))]
                missing = [path for number, path in enumerate(run.paths) if run.length_of(number) is None]
                yield Rebuilt(reader, tuple(wrong), tuple(missing), count * grid.cell_bytes)
