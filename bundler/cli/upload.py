"""`bundle fetch -o ADDRESS`: the bundle goes to a registry or an object store while it is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.remote.address import Address, Place

if TYPE_CHECKING:
    from bundler.make.bundle import Made
    from bundler.transfer.stream import Streamed
    from bundler.trust.signature_file import SignedStatement


def begin_upload(output: Place | None, *, dry_run: bool, is_cut: bool) -> Streamed | None:
    """Return where a bundle goes if `output` is an address; None if it is a path.

    Raises:
        click.UsageError: It would be cut into volumes, or nothing would be written.
    """
    if not isinstance(output, Address):
        return None
    if dry_run or is_cut:
        raise click.UsageError("--dry-run and --volume-size are for files: leave them away, or name a file")
    from bundler.transfer.push import upload_notes
    from bundler.transfer.stream import stream_to

    return stream_to(output, upload_notes())


def finish_upload(
    upload: Streamed,
    made: Made,
    signed: tuple[SignedStatement, Path] | None,
    on_note: Callable[[str], None],
    *,
    as_json: bool,
) -> None:
    """Show the bundle at its address, and say which that is."""
    address, _ = upload.finish(made.lock, made.digest, signed[1] if signed else None, on_note)
    on_note(f"pushed to {address}")
    if not as_json:
        click.echo(address)
