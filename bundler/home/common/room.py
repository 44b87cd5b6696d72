"""Room for an installation: looked for before it writes, and named where it ran out all the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundler.errors import SpaceError
from bundler.files.space import check_room, is_disk_full
from bundler.plan.layout import Blob

# Room for one file's directory entry, inode and last block.
_OVERHEAD_BYTES_PER_FILE = 4096


def check_room_for(hf_home: Path, wanted: Sequence[Blob]) -> None:
    """Make sure that blobs fit into a home.

    Raises:
        SpaceError: They do not.
    """
    if not wanted:
        return
    unique = {blob.sha256: blob.size_bytes for blob in wanted}
    needed = sum(unique.values()) + _OVERHEAD_BYTES_PER_FILE * len(wanted)
    check_room({hf_home: needed}, hint="free some, or install to another file system with --hf-home")


def explain_full_disk(error: OSError, hf_home: Path) -> BaseException:
    """Return an error in words if a disk is full, else the error as it is."""
    if is_disk_full(error):
        return SpaceError(
            f"{hf_home}: the file system filled up while installing; what is written is kept and verified",
            hint="free some space and run the same command again",
        )
    return error
