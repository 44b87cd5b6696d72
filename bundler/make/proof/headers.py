"""Check safetensors files by their headers only: names, shapes, and whether the file is complete.

The reader is the safetensors library, which checks on opening that the tensors cover the file without holes or
overlaps (https://github.com/huggingface/safetensors#format). Weights are never read: a header has a few kilobytes, the
weights gigabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bundler.text import strict_json
from bundler.text.strict_json import StrictJsonError

# The end of a fault about a missing file.
MISSING_SHARD = "which is missing"


@dataclass(frozen=True)
class TensorHeader:
    """The entry of a tensor in a header.

    Attributes:
        shape: Its dimensions.
        dtype: The name of its type in the format, such as ``BF16``.
    """

    shape: tuple[int, ...]
    dtype: str


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Return name -> header of the tensors in a file.

    Raises:
        ValueError: The file is truncated, misaligned, or not a safetensors file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {}
            for name in file.keys():  # noqa: SIM118 - the library's object is not a mapping
                entry = file.get_slice(name)
                tensors[name] = TensorHeader(tuple(entry.get_shape()), entry.get_dtype())
            return tensors
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name}: not a whole safetensors file: {error}") from error


def index_faults(index: Path, headers: Mapping[str, Mapping[str, TensorHeader]]) -> list[str]:
    """Compare the index of a sharded checkpoint with the headers of its shards, both ways.

    Args:
        index: A ``*.safetensors.index.json``.
        headers: File name -> tensors, for the files in the same folder.

    Returns:
        One line for each missing shard, and for each tensor that is not in the shard that the index names.
    """
    try:
        listed = strict_json.read(index.read_text("utf-8"))["weight_map"]  # type: ignore[index]
        if not isinstance(listed, dict) or not all(isinstance(shard, str) for shard in listed.values()):
            raise TypeError("weight_map maps no names to files")
    except (StrictJsonError, ValueError, KeyError, TypeError) as error:
        return [f"{index.name}: not an index of shards: {error!r}"]
    faults = [f"{index.name} names {shard}, {MISSING_SHARD}" for shard in sorted({*listed.values()} - {*headers})]
    for name, shard in sorted(listed.items()):
        if shard in headers and name not in headers[shard]:
            faults.append(f"{index.name} puts {name} into {shard}, which does not have it")
    unlisted = {name for shard in {*listed.values()} & {*headers} for name in headers[shard]} - {*listed}
    faults.extend(f"{name} is in a shard and not in {index.name}" for name in sorted(unlisted))
    return faults
