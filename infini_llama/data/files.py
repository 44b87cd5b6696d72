"""Find what `--raw-data` names: a file, a folder, or a dataset of the installed bundle.

Rule book:

* a folder is searched recursively, in the order of paths. The suffix (`KINDS`) tells what a file holds, after the
  suffix of its compression (`compression.SUFFIXES`) is removed;
* a linked folder is searched like any other; each folder once, under the first of its paths. What cannot be searched,
  or is no file, is an error: left out without a word, other data would be trained on;
* in a folder, files with other suffixes are not read, and the log names them; a file that is given itself is read as
  text whatever its suffix;
* the datasets library loads `dataset:org/name[:config[:split]]` offline; the default split is `train`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infini_llama.data.compression import SUFFIXES
from infini_llama.errors import TrainingDataError

Kind = Literal["text", "lines", "parquet"]

KINDS: dict[str, Kind] = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "lines",
    ".parquet": "parquet",
    ".pq": "parquet",
}
DATASET = "dataset:"


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """A file to read.

    Attributes:
        path: Where it is.
        kind: Format of its records.
        compression: Suffix of its compression; empty for none.
    """

    path: Path
    kind: Kind
    compression: str


@dataclass(frozen=True, kw_only=True)
class DatasetName:
    """A dataset to load; the configuration may be empty if the dataset has only one."""

    repo_id: str
    config: str | None
    split: str

    def __str__(self) -> str:
        return f"{DATASET}{self.repo_id}:{self.config or ''}:{self.split}"


def parse_dataset_name(raw_data: str) -> DatasetName | None:
    """Parse `dataset:org/name[:config[:split]]`; return None if `raw_data` is a path.

    Raises:
        TrainingDataError: It begins with `dataset:`, but has another form.
    """
    if not raw_data.startswith(DATASET):
        return None
    name, *more = raw_data.removeprefix(DATASET).split(":")
    if not name or len(more) > 2:
        raise TrainingDataError(f"{raw_data}: expected dataset:org/name[:config[:split]]")
    config, split = [*more, "", ""][:2]
    return DatasetName(repo_id=name, config=config or None, split=split or "train")


def find_files(path: Path) -> tuple[list[RawFile], list[Path]]:
    """Return the files to read at `path`, in order, and the files in a folder whose suffix is not known.

    Raises:
        TrainingDataError: There is nothing to read.
    """
    if path.is_file():
        return [raw_file(path) or RawFile(path=path, kind="text", compression=compression_of(path))], []
    if not path.is_dir():
        raise TrainingDataError(
            f"{path}: does not exist", hint=f"name a file, a folder, or {DATASET}org/name of an installed bundle"
        )
    files, left_out = [], []
    for found in sorted(_search(path)):
        file = raw_file(found)
        if file is None:
            left_out.append(found)
        elif found.is_file():
            files.append(file)
        else:
            what = "a link that leads to none" if found.is_symlink() else "something else"
            raise TrainingDataError(f"{found}: expected a file, found {what}", hint="mend it, or move it away")
    if not files:
        others = f", but {len(left_out)} others such as {left_out[0].name}" if left_out else ""
        raise TrainingDataError(
            f"{path}: holds no file named {', '.join(KINDS)}{others}",
            hint=f"each may be compressed, except Parquet: {', '.join(SUFFIXES)}",
        )
    return files, left_out


def _search(folder: Path) -> Iterator[Path]:
    """Yield all in a folder that is no folder itself."""

    def refuse(error: OSError) -> None:
        raise TrainingDataError(
            f"{error.filename}: cannot be read: {error.strerror}",
            hint="let this user read it, or name the files and folders beside it one by one in data.sources",
        ) from error

    searched = {os.path.realpath(folder)}
    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        yield from (Path(place, name) for name in names)
        others = {name: os.path.realpath(Path(place, name)) for name in sorted(folders)}
        folders.clear()
        for name, target in others.items():
            if target not in searched:
                searched.add(target)
                folders.append(name)


def raw_file(path: Path) -> RawFile | None:
    """Return how to read a file, from its name; None if its suffix is not known."""
    compression = compression_of(path)
    kind = KINDS.get(
        Path(path.name.removesuffix(path.suffix)).suffix.lower() if compression else path.suffix.lower()
    )
    # Parquet is compressed inside, and needs random access.
    if kind is None or (kind == "parquet" and compression):
        return None
    return RawFile(path=path, kind=kind, compression=compression)


def compression_of(path: Path) -> str:
    """Return the suffix of a file's compression; empty for none."""
    return path.suffix.lower() if path.suffix.lower() in SUFFIXES else ""
