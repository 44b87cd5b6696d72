"""Delete what killed installations left half-written in the folders that an installation writes to."""

from __future__ import annotations

import time
from pathlib import Path

from bundler.files.leftovers import remove_leftovers
from bundler.files.paths import inside
from bundler.plan.folders import BUNDLES_FOLDER, CONTENT_FOLDERS
from bundler.plan.layout import Layout


def sweep(hf_home: Path, content: Layout) -> None:
    """Delete it where `content` is about to be written; what a living process writes stays."""
    now = time.time()
    folders = {hf_home / BUNDLES_FOLDER}
    for repo in content.repos:
        folders.add(inside(hf_home, repo.folder))
        folders |= {inside(hf_home, path) for path, _ in repo.alias_links()}
        folders |= {inside(hf_home, blob.path).parent for blob in repo.prepared}
    for folder in folders:
        remove_leftovers(folder, now=now)
    sweep_shared(hf_home)


def sweep_shared(hf_home: Path) -> None:
    """Delete it in the folders that all bundles share, in which other names of repos are links."""
    for shared in CONTENT_FOLDERS:
        remove_leftovers(hf_home / shared, now=time.time(), below=False)
