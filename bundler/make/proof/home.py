"""A temporary HF_HOME that holds exactly the files of one lock, made from the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bundler.files.links import link_or_copy, symlinks_work
from bundler.files.paths import inside
from bundler.home.common.publish import publish
from bundler.plan.layout import Blob, Layout


def assemble(home: Path, layout: Layout, blob_path: Callable[[Blob], Path]) -> None:
    """Put every blob of `layout` below `home`, and publish it as an installation would.

    Blobs are hard links, so this takes almost no time and space. The libraries only read them.
    """
    for blob in layout.blobs:
        link_or_copy(blob_path(blob), inside(home, blob.path))
    publish(home, layout, symlinks=symlinks_work(home))
