"""Writable folders in place of those below a read-only HF_HOME that libraries insist on writing to.

`trust_remote_code` copies its modules to HF_MODULES_CACHE before it imports them, and `datasets` makes lock files
beside what it reads; `evaluate` has two more, for locks and for what it counts. For each of them that cannot be
written, a folder below the temporary folder stands in: modules are copied, prepared datasets are mirrored as real
folders with links to the verified files, so that locks and the caches of `Dataset.map` have a place and the content is
still the verified one. Those of `evaluate` begin empty.

The folder is that of `bundler.files.private_folder`, kept between launches.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bundler.errors import ConflictError
from bundler.files.atomic import temporary_path
from bundler.files.digest import sha256_bytes
from bundler.files.links import replace_symlink
from bundler.files.private_folder import make_private_folder
from bundler.offline.variables import WritableOverlay


def make_overlay(hf_home: Path, datasets: Path | None = None, files: Sequence[Path] = ()) -> WritableOverlay:
    """Make what `hf_home` needs; nothing for a cache that can be written, and has no files of other hosts.

    Args:
        hf_home: The cache root.
        datasets: Where the launch reads prepared datasets; default `hf_home/datasets`.
        files: Folders with files of other hosts.

    Raises:
        OfflineError: The place for it belongs to another user.
        ConflictError: Two bundles have different files for one place.
    """
    modules, datasets = hf_home / "modules", datasets or hf_home / "datasets"
    result = WritableOverlay()
    if not _is_writable(modules):
        place = make_private_folder(hf_home) / "modules"
        place.mkdir(exist_ok=True)
        if modules.is_dir():
            shutil.copytree(modules, place, dirs_exist_ok=True, copy_function=_copy_writable)
        result = WritableOverlay(modules=place)
    if not _is_writable(datasets):
        place = make_private_folder(datasets.parent) / "datasets"
        mirror(datasets, place)
        result = replace(result, datasets=place)
    for name in ("metrics", "evaluate"):
        if not _is_writable(hf_home / name):
            place = make_private_folder(hf_home) / name
            place.mkdir(exist_ok=True)
            result = replace(result, **{name: place})
    if files:
        described = sha256_bytes("\n".join(sorted(map(str, files))).encode())
        place = make_private_folder(hf_home) / f"files-{described[:32]}"
        merge_files(files, place)
        result = replace(result, files=place)
    return result


def merge_files(folders: Sequence[Path], place: Path) -> None:
    """Make `place` show what several folders hold of files of other hosts; what is in none of them any more stays.

    Libraries delete files that they do not expect, and write beside them: they do that here. What nltk reads is copied,
    since it follows no link that leads out of its folder; all else are links to the verified content.

    Raises:
        ConflictError: Two of the folders have different files of one name.
    """
    seen: dict[Path, Path] = {}
    for source in folders:
        for path, _, names in os.walk(source):
            for name in names:
                content = Path(path, name).resolve()
                below = Path(path, name).relative_to(source)
                first = seen.setdefault(below, content)
                if first != content and not filecmp.cmp(first, content, shallow=False):
                    raise ConflictError(
                        f"two bundles of this launch have different files for {below}",
                        hint="start it with one of them, `--bundle NAME`",
                    )
    for below, content in seen.items():
        target = place / below
        target.parent.mkdir(parents=True, exist_ok=True)
        if below.parts[0] != "nltk_data":
            replace_symlink(target, str(content))
        elif not (target.is_file() and filecmp.cmp(content, target, shallow=False)):
            temporary = temporary_path(target.parent)
            shutil.copyfile(content, temporary)
            temporary.replace(target)


def _is_writable(folder: Path) -> bool:
    """Tell whether files can be made in `folder` and in all folders below it, or `folder` itself can be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
        if folder.exists():
            return os.access(folder, os.W_OK | os.X_OK)
    return all(os.access(path, os.W_OK | os.X_OK) for path, _, _ in os.walk(folder))


def _copy_writable(source: str, target: str) -> str:
    # Read-only source trees must not leave read-only copies, which the next launch could not renew.
    return shutil.copyfile(source, target)


def mirror(source: Path, place: Path) -> None:
    """Make `place` show what `source` holds, with folders of its own; what is not in `source` any more goes."""
    place.mkdir(parents=True, exist_ok=True)
    for path, _, names in os.walk(place):
        for name in names:
            link = Path(path, name)
            if link.is_symlink() and not link.exists():
                link.unlink()
    for path, folders, names in os.walk(source):
        below = place / Path(path).relative_to(source)
        for name in folders:
            original = Path(path, name)
            if original.is_symlink():
                # An alias of a repo: its target stands beside it, here too.
                replace_symlink(below / name, str(original.readlink()))
            else:
                (below / name).mkdir(exist_ok=True)
        for name in names:
            if not name.endswith(".lock"):
                replace_symlink(below / name, str(Path(path, name).absolute()))
