"""Note each file that the functions of huggingface_hub hand out: from the network or from the cache, all the same.

`watch` loads this from its file: the standard library only.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Callable, Iterable
from types import FrameType, ModuleType
from typing import Any

_watch: Any = sys.modules["bundler.draft.record.watch.watch"]

# The form of the cache: models--org--name/snapshots/COMMIT/PATH.
_IN_CACHE = re.compile(r"/(\w+)s--([^/]+)/snapshots/([0-9a-f]{40})/(.+)")
# A folder that is handed out whole may be any folder of this machine, if a link in it leads astray.
_MOST_FILES = 200_000


def wrap(module: ModuleType) -> None:
    """Put a note behind the functions of a module by which files, commits or code of a repo are found."""
    for name, take_note in _NOTED.get(module.__name__, {}).items():
        expected = object if take_note is _note_code else str
        setattr(module, name, _watch.note_after(getattr(module, name), take_note, expected))
    if module.__name__ == "huggingface_hub.hf_api":
        functions = dict.fromkeys(("resolve_revision", "model_info", "dataset_info"), _note_revision)
        for name, take_note in (functions | {"list_repo_refs": _note_refs}).items():
            setattr(module.HfApi, name, _watch.note_after(getattr(module.HfApi, name), take_note, object))
            # The function of that name is a method of an object of the module's own.
            setattr(module, name, getattr(module.api, name))


def note_path(path: str) -> None:
    """Note a file of a snapshot that was opened by its path in the cache."""
    found = _IN_CACHE.search(path)
    if found:
        repo_type, folder, commit, file = found.groups()
        _watch.note(
            "file", repo_type=repo_type, repo_id=folder.replace("--", "/"), revision="", commit=commit, path=file
        )


def _note_file(call: dict[str, Any], path: str, frame: FrameType) -> None:
    """Note what `hf_hub_download` or `try_to_load_from_cache` found."""
    subfolder, file = call.get("subfolder"), call["filename"]
    _note(call, [f"{subfolder}/{file}" if subfolder else file], path, frame)


def _note_revision(call: dict[str, Any], result: Any, frame: FrameType) -> None:
    """Note which commit a revision led to: what follows asks by the commit."""
    commit = getattr(result, "resolved", None) or getattr(result, "sha", None)
    repo_type = "dataset" if type(result).__name__ == "DatasetInfo" else call.get("repo_type") or "model"
    revision = str.__str__(call["revision"]) if call.get("revision") else "main"
    _watch.note(
        "file", repo_type=repo_type, repo_id=call["repo_id"], revision=revision, commit=str(commit or ""), path=""
    )


def _note_refs(call: dict[str, Any], result: Any, _: FrameType) -> None:
    """Note all branches and tags of a repo: a program that asks for them chooses one, and goes on with its commit."""
    for ref in (*result.branches, *result.tags):
        _watch.note(
            "file",
            repo_type=call.get("repo_type") or "model",
            repo_id=call["repo_id"],
            revision=ref.name,
            commit=ref.target_commit,
            path="",
            listed=True,
        )


def _note_code(call: dict[str, Any], _: Any, __: FrameType) -> None:
    """Note that Python was run for a repo: it may lie in another one."""
    name = call.get("pretrained_model_name_or_path")
    if isinstance(name, str) and not os.path.isdir(name):  # noqa: PTH112
        _watch.note("code", repo_id=name)


def _note_snapshot(call: dict[str, Any], folder: str, frame: FrameType) -> None:
    allowed, ignored = _patterns(call.get("allow_patterns")), _patterns(call.get("ignore_patterns"))
    files = [
        file
        for file in _list_files(folder)
        if (allowed is None or _matches(file, allowed)) and not _matches(file, ignored or ())
    ]
    _note(call, files, folder, frame)


def _note(call: dict[str, Any], files: Iterable[str], found: str, frame: FrameType) -> None:
    # Each library gives what `main` means; a commit that a library has put in is merged with its branch afterwards.
    revision = str.__str__(call["revision"]) if call.get("revision") else "main"
    place = str(call.get("local_dir") or "")
    in_cache = _IN_CACHE.search(f"{found}/")
    commit = in_cache.group(3) if in_cache else ""
    line = _watch.find_line(frame)
    for file in files:
        _watch.note(
            "file",
            repo_type=call.get("repo_type") or "model",
            repo_id=call["repo_id"],
            revision=revision,
            commit=commit or _read_commit(place, file),
            path=file,
            local_dir=place,
            where=line,
        )


def _read_commit(local_dir: str, file: str) -> str:
    """Return the commit that the library notes beside a file that it put into a folder of the program's own."""
    try:
        with open(f"{local_dir}/.cache/huggingface/download/{file}.metadata", encoding="utf-8") as stream:  # noqa: PTH123
            return stream.readline().strip()
    except OSError:
        return ""


def _list_files(folder: str) -> list[str]:
    files = []
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not (top == folder and name == ".cache")]
        files += [os.path.relpath(os.path.join(top, name), folder) for name in names]  # noqa: PTH118
        if len(files) > _MOST_FILES:
            break
    return sorted(files)


def _patterns(given: Any) -> list[str] | None:
    """Return patterns as the library reads them: one or several, and a folder means all below it."""
    if given is None:
        return None
    given = [given] if isinstance(given, str) else list(given)
    return [f"{pattern}*" if pattern.endswith("/") else pattern for pattern in given]


def _matches(file: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(file, pattern) for pattern in patterns)


_NOTED: dict[str, dict[str, Callable[..., None]]] = {
    "huggingface_hub.file_download": {"hf_hub_download": _note_file, "try_to_load_from_cache": _note_file},
    "huggingface_hub._snapshot_download": {"snapshot_download": _note_snapshot},
    "transformers.dynamic_module_utils": {"get_class_from_dynamic_module": _note_code},
}
