"""A temporary HF_HOME that holds exactly the files of one lock, made from the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bundler.errors import ProofError
from bundler.files.links import ignores_case, link_or_copy, symlinks_work
from bundler.files.paths import inside
from bundler.home.common.publish import publish
from bundler.plan.layout import Blob, Layout


def assemble(home: Path, layout: Layout, blob_path: Callable[[Blob], Path]) -> None:
    """Put every blob of `layout` below `home`, and publish it as an installation would.

    Blobs are hard links, so this takes almost no time and space. The libraries only read them.

    Raises:
        ProofError: Two names differ only in the case of letters, which this file system ignores.
    """
    home.mkdir(parents=True, exist_ok=True)
    if ignores_case(home):
        _refuse_clashes(layout)
    for blob in layout.blobs:
        link_or_copy(blob_path(blob), inside(home, blob.path))
    publish(home, layout, symlinks=symlinks_work(home))


def _refuse_clashes(layout: Layout) -> None:
    for repo in layout.repos:
        known: dict[str, str] = {}
        for name in (*(file.path for file in repo.snapshots), *(f"{repo.folder}/refs/{ref}" for ref in repo.refs)):
            other = known.setdefault(name.casefold(), name)
            if other != name:
                raise ProofError(
                    f"{repo.repo_id}: {other.rpartition('/')[2]} and {name.rpartition('/')[2]} are one name on this "
                    "file system, which ignores case: the proof would read one for the other",
                    hint="name a folder where case matters with --cache-dir (on a Mac: a case-sensitive APFS volume), "
                    "or leave one of the two out with ignore_patterns",
                )
