"""What an installation has written and no receipt names yet: `HF_HOME/bundles/NAME.json.unfinished`.

An installation that fails or is killed leaves the blobs that it has verified, so that the next one goes on from them.
This file lists them, one path a line, from before the first is written until the receipt is there. The next
installation of that bundle uses or deletes them, and so does its removal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from bundler.errors import FormatError
from bundler.files.paths import atomic_write, inside
from bundler.home.prune import delete, link_targets, owned_paths
from bundler.plan.layout import BUNDLES_FOLDER, Layout

UNFINISHED_SUFFIX = ".json.unfinished"


def unfinished_path(hf_home: Path, name: str) -> Path:
    """Return where the list of a bundle stands."""
    return hf_home / BUNDLES_FOLDER / f"{name}{UNFINISHED_SUFFIX}"


def unfinished_names(hf_home: Path) -> list[str]:
    """Return the names of bundles of which an installation did not end, sorted."""
    found = (hf_home / BUNDLES_FOLDER).glob(f"*{UNFINISHED_SUFFIX}")
    return sorted(path.name.removesuffix(UNFINISHED_SUFFIX) for path in found)


def unfinished_blobs(hf_home: Path, name: str) -> list[str]:
    """Return the paths that are listed, less what cannot be one of ours."""
    try:
        lines = unfinished_path(hf_home, name).read_text("utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return []
    return [line for line in lines if _is_blob(line)]


def note_unfinished(hf_home: Path, name: str, blobs: Iterable[str]) -> None:
    """Add to the list what is about to be written."""
    paths = sorted({*unfinished_blobs(hf_home, name), *filter(_is_blob, blobs)})
    atomic_write(unfinished_path(hf_home, name), "".join(f"{path}\n" for path in paths).encode())


def clear_unfinished(hf_home: Path, name: str, *, keep: Iterable[Layout]) -> int:
    """Delete what is listed and neither one of `keep` nor a snapshot uses, and the list.

    Returns:
        Bytes freed.
    """
    path = unfinished_path(hf_home, name)
    if not path.exists():
        return 0
    kept = {owned for content in keep for repo in content.repos for owned in owned_paths(repo)}
    freed = 0
    linked: dict[Path, set[Path]] = {}
    for blob in unfinished_blobs(hf_home, name):
        place = inside(hf_home, blob)
        repo = place.parent.parent
        if repo not in linked:
            linked[repo] = set(link_targets(repo / "snapshots"))
        if place.resolve() not in linked[repo]:
            freed += delete(hf_home, blob, kept)
    path.unlink()
    return freed


def _is_blob(path: str) -> bool:
    parts = path.split("/")
    with contextlib.suppress(FormatError):
        inside(Path(), path)
        return len(parts) == 4 and (parts[0], parts[2]) == ("hub", "blobs")
    return False
