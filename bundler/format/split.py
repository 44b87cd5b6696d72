"""Copy a bundle unchanged, checking it meanwhile: between one file and volumes, or to volumes of another size.

The copy has the same bytes and the same digest, only in other files. A damaged chunk ends the copy with an error.
"""

from __future__ import annotations

from collections.abc import Callable

from bundler.files.space import report_full_disk
from bundler.format.index import PREAMBLE, index_frame
from bundler.format.reader import BundleReader
from bundler.format.storage.destinations import Destination


def copy_bundle(
    reader: BundleReader, destination: Destination, *, progress: Callable[[int], None] = lambda count: None
) -> None:
    """Write a bundle to another place.

    Args:
        reader: The bundle.
        destination: Where to write it; must not be where the bundle is.
        progress: Called with the number of bytes copied since the last call.

    Raises:
        FormatError: A chunk is damaged; nothing is left at the destination.
        UsageError: A volume is too small for one of its chunks.
        SpaceError: The disk filled up; what was written was removed.
    """
    full = report_full_disk(
        destination.path,
        f"{destination.path}: the file system is full; what was written of the copy was removed",
        hint=f"the copy needs {reader.size_bytes:,} bytes: choose another folder with --output",
    )
    with full, destination.open() as sink:
        sink.write(PREAMBLE)
        progress(len(PREAMBLE))
        for number in range(len(reader.index.chunks)):
            chunk = reader.stored_chunk(number)
            sink.write(chunk)
            progress(len(chunk))
        frame = index_frame(reader.index)
        sink.write(frame)
        progress(len(frame))
