"""Read folders of trained models as repos: what was trained here goes on, or back, as what was fetched does.

Rule book:

* a folder with a `config.json`, or `adapter_config.json`, is a model, and the branch `main` of its repo. A folder with
  `checkpoint-N` in it is a row of them: each is a branch of that name, and the last one is `main` too;
* files are chosen as of a model on the Hub, and what says how it was trained is taken besides. Pickles only if that is
  allowed, and no Python: what is left out is named;
* commits and etags are those that git and the Hub would have for such files, so that equal files give equal bundles;
* every file is hashed when it is taken into the store, and only that copy is packed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from bundler.errors import UsageError
from bundler.files.digest import hash_file
from bundler.hub.selection.card import read_card
from bundler.hub.selection.files import select
from bundler.hub.selection.remote_code import module_folders
from bundler.make.cache.clone import clone_file
from bundler.make.store import Store, StoredBlob
from bundler.plan.entry import Entry
from bundler.plan.git_objects import commit_id, lfs_pointer_id
from bundler.plan.lock import Card, LockedFile, LockedRepo
from bundler.text.wording import name_some

_CONFIGS = ("config.json", "adapter_config.json", "modules.json")
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
# How it was trained: ours, and transformers' Trainer's.
_PROVENANCE = frozenset({"provenance.json", "train.yaml", "trainer_state.json"})
# The Hub wants longer files in LFS.
_LFS_BYTES = 10 << 20


def read_trained(
    folder: Path, repo_id: str, store: Store, *, allow_pickle: bool, on_note: Callable[[str], None]
) -> tuple[LockedRepo, ...]:
    """Take the models of a folder into the store, and return them as locked repos.

    Args:
        folder: A model, or a run with checkpoints.
        repo_id: The id that they are to have.
        store: Where their files go.
        allow_pickle: Whether to take pickle weights where there are no others.
        on_note: Told what is left out.

    Raises:
        SelectionError: A folder has no weights that may be taken.
        UsageError: There is no model.
        OSError: A file cannot be read, or not be stored.
    """
    models = _find_models(folder)
    return tuple(
        _read_model(
            path,
            Entry(
                kind="model",
                repo_id=repo_id,
                revision=branch,
                allow_pickle=allow_pickle,
                base_elsewhere=(path / "adapter_config.json").is_file(),
            ),
            ("main",) if branch != "main" and path == models[-1][1] else (),
            store,
            on_note,
        )
        for branch, path in models
    )


def _find_models(folder: Path) -> list[tuple[str, Path]]:
    if any((folder / name).is_file() for name in _CONFIGS):
        return [("main", folder)]
    steps = {
        int(match[1]): path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _CHECKPOINT.fullmatch(path.name)) and any((path / name).is_file() for name in _CONFIGS)
    }
    if not steps:
        raise UsageError(
            f"{folder}: expected a model with one of {', '.join(_CONFIGS)}, or checkpoint-N folders with such, "
            "found neither",
            hint="name the folder that save_pretrained, or the trainer, wrote to",
        )
    return [(f"checkpoint-{step}", steps[step]) for step in sorted(steps)]


def _read_model(
    folder: Path, entry: Entry, refs: tuple[str, ...], store: Store, on_note: Callable[[str], None]
) -> LockedRepo:
    paths = _list_files(folder)
    modules = folder / "modules.json"
    probed = [f"{name}/config.json" for name in module_folders(modules.read_bytes() if modules.is_file() else b"")]
    selection = select(entry, paths, probed=probed)
    chosen = sorted({*selection.paths, *(path for path in paths if path in _PROVENANCE)})
    if left := sorted(set(paths) - set(chosen)):
        on_note(f"{folder}: left out {name_some(left)}")
    files = tuple(_store_file(folder / path, path, store) for path in chosen)
    readme = folder / "README.md"
    return LockedRepo(
        kind="model",
        repo_id=entry.repo_id,
        revision=entry.revision,
        commit=commit_id({file.path: file.blob_id for file in files}),
        refs=refs,
        allow_pickle=entry.allow_pickle,
        base_elsewhere=entry.base_elsewhere,
        card=read_card(readme.read_bytes()) if readme.is_file() else Card(),
        files=files,
        absent=selection.absent,
    )


def _list_files(folder: Path) -> list[str]:
    """Return the files below a folder, without what is hidden."""
    found = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in found)
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


def _store_file(path: Path, name: str, store: Store) -> LockedFile:
    with store.work_folder() as work:
        copy = work / "file"
        clone_file(path, copy)
        digests = hash_file(copy, "sha256", "blake3", "git_sha1")
        assert digests.sha256 and digests.git_sha1 and digests.blake3, "all were asked for"
        is_lfs = name.endswith(".safetensors") or digests.size_bytes >= _LFS_BYTES
        file = LockedFile(
            path=name,
            size_bytes=digests.size_bytes,
            blob_id=lfs_pointer_id(digests.sha256, digests.size_bytes) if is_lfs else digests.git_sha1,
            lfs_sha256=digests.sha256 if is_lfs else None,
            sha256=digests.sha256,
            blake3=digests.blake3,
        )
        if store.find_verified(file.etag) is None:
            store.adopt(copy, StoredBlob.of(file.etag, digests))
    return file
