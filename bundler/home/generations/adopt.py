"""Take over what a version without generations installed: give it the receipt and the view of a generation."""

from __future__ import annotations

import contextlib

from bundler.errors import IntegrityError, LockError
from bundler.home.generation import generation_path
from bundler.home.home import Home
from bundler.home.installed import InstalledBundle
from bundler.home.receipt import Receipt
from bundler.home.view.view import build_view
from bundler.home.write_receipt import write_receipt


def adopt_generation(home: Home, bundle: InstalledBundle, *, symlinks: bool) -> None:
    """Make sure that `bundle`, the current one until now, stays whole as a generation of its own.

    Args:
        home: Its home, under its lock.
        bundle: What a receipt vouches for.
        symlinks: Whether the file system has symlinks, and so views.
    """
    with contextlib.suppress(FileNotFoundError, IntegrityError, LockError):
        # Not if it is damaged: then the pointer, which is about to move, has the only receipt that is whole.
        path = generation_path(home.path, bundle.name, bundle.digest)
        if home.read(path, parse=False).digest == bundle.digest:
            return
    has_view = bundle.has_view
    if symlinks and not has_view:
        # Of what is damaged there is no view: it is read where it is, as before.
        with contextlib.suppress(OSError):
            build_view(home.path, bundle.name, bundle.digest, bundle.layout)
            has_view = True
    receipt = Receipt(bundle.lock, bundle.digest, bundle.left_out, has_view=has_view, is_checked=bundle.is_checked)
    write_receipt(home.path, receipt)
