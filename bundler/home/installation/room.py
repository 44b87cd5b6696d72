"""How much room an installation takes: content that is not there yet, and names."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from bundler.files.links import hard_links_work
from bundler.files.space import check_room
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.layout import Blob

# Room for one file's directory entry, inode and last block.
_OVERHEAD_BYTES_PER_FILE = 4096


def count_new_bytes(wanted: Iterable[Blob], there: Container[str]) -> int:
    """Return how many bytes of content are not there yet, each content once.

    Args:
        wanted: Blobs that are not at their place.
        there: SHA-256 of contents that stand elsewhere in the home, of which a blob is another name.
    """
    return sum({blob.sha256: blob.size_bytes for blob in wanted if blob.sha256 not in there}.values())


def room_needed(wanted: Sequence[Blob], there: Container[str], *, hard_links: bool = True) -> int:
    """Return how much room an installation takes at most, for content and names.

    Args:
        wanted: As for `count_new_bytes`, like `there`.
        there: SHA-256 of contents that stand elsewhere in the home.
        hard_links: Whether a second name costs nothing; else it is a copy.
    """
    names = _OVERHEAD_BYTES_PER_FILE * len(wanted)
    if hard_links:
        return count_new_bytes(wanted, there) + names
    # Prepared files are copied from where they wait: into the view, and into the shared one.
    prepared = [blob for blob in wanted if blob.path.startswith("datasets/")]
    waiting = count_new_bytes(prepared, there)
    return waiting + sum(blob.size_bytes for blob in (*wanted, *prepared)) + names


def check_room_for(wanted: Sequence[Blob], there: Container[str], hf_home: Path, *, besides: int = 0) -> None:
    """Make sure that there is room for what is about to be written.

    Args:
        wanted: As for `room_needed`, like `there`.
        there: SHA-256 of contents that stand elsewhere in the home.
        hf_home: The cache root, which is there. Whether it has hard links is found out by making one, if it matters.
        besides: Bytes that are needed for the time of the installation.

    Raises:
        SpaceError: There is not; nothing was written.
    """
    if not wanted:
        return
    hard_links = True
    if room_needed(wanted, there, hard_links=False) > room_needed(wanted, there):
        # Where nothing can be made at all, the first write says so.
        with contextlib.suppress(OSError):
            hard_links = hard_links_work(hf_home / BUNDLES_FOLDER)
    needed = room_needed(wanted, there, hard_links=hard_links) + besides
    check_room(
        {hf_home: needed},
        files={hf_home: len({blob.sha256 for blob in wanted if blob.sha256 not in there})},
        hint="free some, or install to another file system with --hf-home",
    )
