"""Read folders of trained models as repos: what was trained here goes on, or back, as what was fetched does.

Rule book:

* a folder with a `config.json`, or `adapter_config.json`, is a model, and the branch `main` of its repo. A folder with
  `checkpoint-N` in it is a row of them: each is a branch of that name, and the last one is `main` too;
* a checkpoint without a config is half written, or of another kind: it is left out, and named;
* files are chosen as of a model on the Hub, and what says how it was trained is taken besides. Pickles and Python only
  if that is allowed. What is left out is named, all of it;
* links that lead out of the folder, and secrets, are for `bundler.make.trained.files`;
* commits and etags are those that git and the Hub would have for such files, so that equal files give equal bundles;
* every file is hashed when it is taken into the store, and only that copy is packed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bundler.errors import UsageError
from bundler.files.digest import hash_file
from bundler.hub.selection.card import read_card
from bundler.hub.selection.files import Selection, SelectionError, select
from bundler.hub.selection.pickle_names import is_pickle
from bundler.hub.selection.remote_code import module_folders
from bundler.make.cache.clone import clone_file
from bundler.make.store import Store, StoredBlob
from bundler.make.trained.files import list_files, name_left_out, refuse_links, refuse_tokens
from bundler.plan.entry import Entry
from bundler.plan.git_objects import commit_id, lfs_pointer_id
from bundler.plan.lock import Card, LockedFile, LockedRepo

_CONFIGS = ("config.json", "adapter_config.json", "modules.json")
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
# How it was trained: ours, and transformers' Trainer's.
_PROVENANCE = frozenset({"provenance.json", "train.yaml", "trainer_state.json"})
# The Hub wants longer files in LFS.
_LFS_BYTES = 10 << 20


def read_trained(
    folder: Path,
    repo_id: str,
    store: Store,
    *,
    allow_pickle: bool,
    trust_remote_code: bool = False,
    on_note: Callable[[str], None],
) -> tuple[LockedRepo, ...]:
    """Take the models of a folder into the store, and return them as locked repos.

    Args:
        folder: A model, or a run with checkpoints.
        repo_id: The id that they are to have.
        store: Where their files go.
        allow_pickle: Whether to take pickle weights where there are no others.
        trust_remote_code: Whether to take Python, for classes that a config names.
        on_note: Told what is left out.

    Raises:
        SelectionError: A folder has no weights that may be taken.
        UsageError: There is no model, a link leads out of the folder, or a file holds a token.
        OSError: A file cannot be read, or not be stored.
    """
    models = _find_models(folder, on_note)
    root = folder.resolve()
    refuse_links({path: place for _, path in models if not (place := path.resolve()).is_relative_to(root)}, root)
    return tuple(
        _read_model(
            path,
            root,
            Entry(
                kind="model",
                repo_id=repo_id,
                revision=branch,
                allow_pickle=allow_pickle,
                trust_remote_code=trust_remote_code,
                base_elsewhere=(path / "adapter_config.json").is_file(),
            ),
            ("main",) if branch != "main" and path == models[-1][1] else (),
            store,
            on_note,
        )
        for branch, path in models
    )


def _find_models(folder: Path, on_note: Callable[[str], None]) -> list[tuple[str, Path]]:
    """Return (branch, folder) of each model, in the order of steps."""
    if _is_model(folder):
        return [("main", folder)]
    listed = sorted(folder.iterdir()) if folder.is_dir() else []
    steps = {int(match[1]): path for path in listed if (match := _CHECKPOINT.fullmatch(path.name))}
    whole = [step for step in sorted(steps) if _is_model(steps[step])]
    if not whole:
        raise UsageError(
            f"{folder}: expected a model with one of {', '.join(_CONFIGS)}, or checkpoint-N folders with such, "
            "found neither",
            hint="name the folder that save_pretrained, or the trainer, wrote to",
        )
    if others := [path for path in listed if path not in steps.values()]:
        named = ", ".join(f"{path.name}/" if path.is_dir() else path.name for path in others)
        on_note(f"{folder}: left out what is beside the checkpoints: {named}")
    for step in sorted(set(steps) - set(whole)):
        on_note(
            f"{steps[step]}: left out, it has none of {', '.join(_CONFIGS)}; if it is half written, wait for it, or "
            f"delete it. The branch main is checkpoint-{whole[-1]}"
        )
    return [(f"checkpoint-{step}", steps[step]) for step in whole]


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _CONFIGS)


def _read_model(
    folder: Path,
    root: Path,
    entry: Entry,
    refs: tuple[str, ...],
    store: Store,
    on_note: Callable[[str], None],
) -> LockedRepo:
    found = list_files(folder, root=root)
    paths = sorted({*found.places, *found.outside})
    modules = found.places.get("modules.json")
    probed = [f"{name}/config.json" for name in module_folders(modules.read_bytes() if modules else b"")]
    selection = _select(folder, entry, paths, probed)
    chosen = sorted({*selection.paths, *(path for path in paths if path in _PROVENANCE)})
    refuse_links({folder / path: found.outside[path] for path in chosen if path in found.outside}, root)
    refuse_tokens(folder / path for path in chosen)
    if left := name_left_out({*paths, *found.others} - set(chosen), chosen):
        on_note(f"{folder}: left out {', '.join(left)}")
    if found.private:
        on_note(f"{folder}: left out, as files of such names hold secrets: {', '.join(sorted(found.private))}")
    files = tuple(_store_file(found.places[path], path, store) for path in chosen)
    readme = found.places.get("README.md")
    return LockedRepo(
        kind="model",
        repo_id=entry.repo_id,
        revision=entry.revision,
        commit=commit_id({file.path: file.blob_id for file in files}),
        refs=refs,
        allow_pickle=entry.allow_pickle,
        trust_remote_code=entry.trust_remote_code,
        base_elsewhere=entry.base_elsewhere,
        card=read_card(readme.read_bytes()) if readme else Card(),
        files=files,
        absent=selection.absent,
    )


def _select(folder: Path, entry: Entry, paths: Sequence[str], probed: Iterable[str]) -> Selection:
    """Choose files as of a model on the Hub; the error says what can be done to a folder, which has no manifest."""
    try:
        return select(entry, paths, probed=probed)
    except SelectionError as error:
        if pickles := _find_pickled_weights(entry, paths):
            what = (
                f"{folder}: expected weights as safetensors, found {', '.join(pickles)} as pickle only, which can run "
                "code when loaded. --allow-pickle takes them; save_pretrained writes safetensors"
            )
        else:
            what = (
                f"{folder}: expected weights as safetensors, found {', '.join(paths)}. If it is half written, wait "
                "for it, or delete it"
            )
        raise SelectionError([what]) from error


def _find_pickled_weights(entry: Entry, paths: Sequence[str]) -> list[str]:
    """Return the pickles that would be taken if they were allowed, among them no optimizer states."""
    try:
        return [path for path in select(replace(entry, allow_pickle=True), paths).paths if is_pickle(path)]
    except SelectionError:
        return []


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
