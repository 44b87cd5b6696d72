"""Find out from the stack which line of the user's code asked for the network, through what, and for which repo.

The guard loads this from its file when there is something to say, perhaps in an interpreter that has not this
package: it imports the standard library only. Tuples instead of dataclasses, which would want this module to be
registered before it is whole, in sight of other threads.
"""

from __future__ import annotations

import linecache
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import NamedTuple

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
_BUNDLER = os.path.dirname(os.path.dirname(_HERE))  # noqa: PTH120
# What stands between a program and its libraries is ours where it is of the guard, or of a recording.
_OWN = (os.path.join(_HERE, ""), os.path.join(_BUNDLER, "draft", "record", "watch", ""))  # noqa: PTH118
_STDLIB = os.path.dirname(os.__file__) + "/"  # noqa: PTH120

_LIBRARIES = (
    "huggingface_hub",
    "transformers",
    "datasets",
    "diffusers",
    "peft",
    "sentence_transformers",
    "evaluate",
    "kernels",
)
# The type of what a library loads; of others a model, where nothing else says it.
_TYPES = {"datasets": "dataset", "evaluate": "space", "kernels": "kernel"}
# Arguments by which functions of these libraries take the name of a repo; `path` is how `load_dataset` and
# `evaluate.load` do.
_ID_NAMES = ("repo_id", "path_or_repo_id", "pretrained_model_name_or_path", "path")
_NOT_FOUND = ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "IncompleteSnapshotError")
# Of datasets, which names the class in an error of its own; of transformers, when a repo came without weights; of
# evaluate; and of kernels, which has no version, or not this one.
_NOT_FOUND_TEXTS = (
    "(OfflineModeIsEnabled)",
    "does not appear to have a file named",
    "doesn't exist on the Hugging Face Hub either",
    "and Hugging Face Hub is in offline mode",
    "not found, available versions: ",
)


class Wanted(NamedTuple):
    """What a Hugging Face library was looking for.

    Attributes:
        repo_id: The repo, by the name that the program used.
        repo_type: model, dataset, kernel or space.
        file: Its file, if one was asked for by name.
        revision: Branch, tag or commit, if one was asked for.
        config: Configuration of a dataset, if one was asked for.
        call: The function of a library that the program called, such as ``huggingface_hub.hf_hub_download``.
        place: Where else than in the cache the program had it looked for: ``local_dir=DIR`` or ``cache_dir=DIR``.
    """

    repo_id: str
    repo_type: str
    file: str = ""
    revision: str = ""
    config: str = ""
    call: str = ""
    place: str = ""

    def __str__(self) -> str:
        """Return it for people: ``file config.json of model gpt2``."""
        return f"{f'file {self.file} of ' if self.file else ''}{self.repo_type} {self.repo_id}"


class Place(NamedTuple):
    """A line of code."""

    file: str
    line: int
    function: str
    code: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}{f': {self.code}' if self.code else ''}"


class Asked(NamedTuple):
    """Who asked.

    Attributes:
        line: The innermost line of the user's own code; of a library if there is none, as in a thread of its own.
        through: The innermost line outside the standard library.
        wanted: The repo, if a Hugging Face library was at work.
    """

    line: Place
    through: Place
    wanted: Wanted | None

    def __str__(self) -> str:
        text = f"  wanted by  {self.line}"
        return text if self.through == self.line else f"{text}\n  through    {self.through}"

    def as_json(self) -> dict[str, object]:
        """Return it as JSON objects."""
        wanted = self.wanted._asdict() if self.wanted else None
        return {"line": self.line._asdict(), "through": self.through._asdict(), "wanted": wanted}


def find_caller(frame: FrameType) -> Asked:
    """Read the stack from `frame` outwards."""
    frames = list(_outwards(frame))
    if not any(map(_is_the_users, frames)):
        frames += _find_waiting(frames)
    through = next((frame for frame in frames if not _is_standard(frame)), frames[-1])
    asked_by = next(filter(_is_the_users, frames), through)
    return Asked(_place(asked_by), _place(through), _find_wanted(frames))


def _find_waiting(frames: Sequence[FrameType]) -> list[FrameType]:
    """Return the stack, from the user's line outwards, of the thread that waits for the work of a library's own thread.

    It is one that waits by the standard library, within a library that is at work here: huggingface_hub fetches in
    several threads. Of a look-up by asyncio, as fsspec's, there is nothing but the standard library here: then it is
    the only one that waits within any.
    """
    here = {_library(frame) for frame in frames if not _is_standard(frame)}
    found = []
    for innermost in sys._current_frames().values():
        others = list(_outwards(innermost))
        first = next((number for number, frame in enumerate(others) if _is_the_users(frame)), None)
        between = {_library(frame) for frame in others[:first] if not _is_standard(frame)}
        if first is not None and _is_standard(innermost) and (here & between if here else between):
            found.append(others[first:])
    return found[0] if len(found) == 1 else []


def missing_from_cache(error: BaseException | None) -> Wanted | None:
    """Return the repo that was not found offline, if that is what `error`, or what caused it, is about."""
    is_about_it, wanted = False, None
    for cause in causes(error, hidden=True):
        is_about_it |= type(cause).__name__ in _NOT_FOUND or any(text in str(cause) for text in _NOT_FOUND_TEXTS)
        frames = [frame for frame, _ in traceback.walk_tb(cause.__traceback__)]
        wanted = wanted or _find_wanted(frames[::-1])
    return wanted if is_about_it else None


def causes(error: BaseException | None, *, hidden: bool) -> Iterator[BaseException]:
    """Yield an error and what it came from.

    Args:
        error: The last of them.
        hidden: Also what a traceback does not show, because the program raised `from None`.
    """
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ and not hidden else error.__context__)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of a stack but for our own, innermost first."""
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_OWN):
            yield frame
        frame = frame.f_back


def _is_standard(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith("<frozen ") or (file.startswith(_STDLIB) and not _is_installed(frame))


def _is_the_users(frame: FrameType) -> bool:
    return not (_is_standard(frame) or _is_installed(frame))


def _is_installed(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return "/site-packages/" in file or "/dist-packages/" in file


def _place(frame: FrameType) -> Place:
    code, line = frame.f_code, frame.f_lineno
    text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    return Place(code.co_filename, line, code.co_name, text)


def _find_wanted(frames: Sequence[FrameType]) -> Wanted | None:
    """Find a repo in the arguments of the libraries' own functions; frames come innermost first."""
    for frame in frames:
        library = _library(frame)
        if library not in _LIBRARIES:
            continue
        for name in _ID_NAMES:
            repo_id = frame.f_locals.get(name)
            is_named = name != "path" or library in ("datasets", "evaluate")
            if isinstance(repo_id, str) and _may_be_repo(repo_id) and is_named:
                file, repo_type = frame.f_locals.get("filename"), frame.f_locals.get("repo_type")
                # Of kernels it is a name among two that the library looks for.
                if not isinstance(repo_type, str) or library == "kernels":
                    # `HfApi.dataset_info` and its like say it in their names.
                    named = frame.f_code.co_name.removesuffix("_info")
                    repo_type = named if named in ("dataset", "space", "kernel") else _TYPES.get(library, "model")
                if library == "evaluate" and "/" not in repo_id:
                    repo_id = f"evaluate-{frame.f_locals.get('module_type') or 'metric'}/{repo_id}"
                # Every dataset is first asked for a script of its own name, which next to none has.
                if not isinstance(file, str) or (repo_type == "dataset" and file.endswith(".py")):
                    file = ""
                revision = frame.f_locals.get("revision") or _find_version(frame, library)
                config = _config(frames) if repo_type == "dataset" else ""
                revision = revision if isinstance(revision, str) else ""
                return Wanted(repo_id, repo_type, file, revision, config, _find_call(frames), _find_place(frames))
    return None


def _find_version(frame: FrameType, library: str) -> str:
    """Return the branch of the version that the kernels library was asked for."""
    version = frame.f_locals.get("version", frame.f_locals.get("version_spec"))
    return f"v{version}" if library == "kernels" and isinstance(version, int) else ""


def _library(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _find_call(frames: Sequence[FrameType]) -> str:
    """Return the outermost function of the libraries that is no decorator's."""
    for frame in reversed(frames):
        name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        if (library := _library(frame)) in _LIBRARIES and "<locals>" not in name:
            return f"{library}.{name}"
    return ""


def _find_place(frames: Sequence[FrameType]) -> str:
    """Return the folder, other than the cache, that the libraries were told to look in."""
    cache = os.environ.get("BUNDLE_HUB_CACHE")
    for frame in frames:
        if _library(frame) in ("huggingface_hub", "transformers"):
            if folder := frame.f_locals.get("local_dir"):
                return f"local_dir={folder}"
            folder = frame.f_locals.get("cache_dir")
            if folder and cache and os.path.realpath(folder) != os.path.realpath(cache):
                return f"cache_dir={folder}"
    return ""


def _config(frames: Iterable[FrameType]) -> str:
    """Return the configuration that `load_dataset`, or a function that it is made of, was asked for."""
    for frame in frames:
        name = frame.f_locals.get("name")
        if frame.f_code.co_name.startswith("load_dataset") and isinstance(name, str):
            return name
    return ""


def _may_be_repo(text: str) -> bool:
    # The readers of datasets for plain files, such as "csv", have names like repos without a namespace.
    readers = getattr(sys.modules.get("datasets.packaged_modules"), "_PACKAGED_DATASETS_MODULES", ())
    is_name = bool(text) and text.count("/") <= 1 and not text.startswith(("/", ".")) and text not in readers
    return is_name and not os.path.exists(text)  # noqa: PTH110
