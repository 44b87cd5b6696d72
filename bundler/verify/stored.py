"""Verify that each stored byte of a bundle file is the one that its digest stands for, without decoding any."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from bundler.files.parallel import in_order
from bundler.format.reader import BundleReader


def verify_stored(reader: BundleReader, *, jobs: int) -> None:
    """Compare every chunk as it is stored, its header too, with the index, of which the digest is taken.

    So the file is a copy of the bundle with `reader.digest`. Whether that bundle holds what its lock says is another
    question (`bundler.verify.bundle_file`), which is asked again whenever it is installed.

    Args:
        reader: The bundle.
        jobs: Threads that hash.

    Raises:
        DamagedError: A chunk is damaged; the message names it.
        OSError: It cannot be read.
    """
    numbers = range(len(reader.index.chunks))
    calls = (partial(_check, reader, number) for number in numbers)
    with reader.expect(numbers), closing(in_order(calls, jobs=jobs, name="check")) as checked:
        for _ in checked:
            pass


def _check(reader: BundleReader, number: int) -> None:
    # What was read is let go here: a result may wait for its turn.
    reader.stored_chunk(number)
