"""What an installation did."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.home.common.conflicts import Held
from bundler.home.installed import InstalledBundle
from bundler.home.sharing.readers import Closed


@dataclass(frozen=True)
class InstallResult:
    """What an installation did.

    Attributes:
        bundle: What is installed now.
        files: Blobs and prepared files of the bundle, or of the part of it that was asked for.
        size_bytes: Their bytes.
        written_files: How many of them were written; the others were there, and are verified.
        written_bytes: Bytes of content that was not there, each once: a file may be another name of one that is.
        symlinks: Whether snapshots are links; else hard links or copies.
        replaced: Digest of the generation that was the current one before, and stays for a rollback; None if none was.
        has_view: Whether the bundle has a view of its own, which no other installation can change.
        held: Names in the shared view that stay what another bundle needs them to be.
        moved_refs: Refs in the shared view that now name another commit, as (path, old commit, new commit).
        set_aside: Files that stood in a snapshot and that no bundle ships, as (path, where it is now).
        closed: Who cannot read what is installed, though the home is open to them.
        was_complete: Whether all of it was there, so that nothing at all was written.
        rebuilt: Files of the bundle that were damaged or missing, and of which parity gave what lacked.
    """

    bundle: InstalledBundle
    files: int
    size_bytes: int
    written_files: int
    written_bytes: int
    symlinks: bool
    replaced: str | None
    has_view: bool
    held: tuple[Held, ...]
    moved_refs: tuple[tuple[str, str, str], ...]
    set_aside: tuple[tuple[str, str], ...]
    was_complete: bool = False
    closed: tuple[Closed, ...] = ()
    rebuilt: tuple[str, ...] = ()
