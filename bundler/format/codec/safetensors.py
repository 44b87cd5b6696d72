"""Find which parts of a safetensors file have words of which width, so that a writer can choose codecs.

The header is read as https://huggingface.co/docs/safetensors describes it. It decides only this choice: packing is
lossless even if the header is wrong. A file that is not well-formed safetensors is one run of width 1.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

# The safetensors library has the same limit.
MAX_HEADER_BYTES = 100_000_000

# Types for which byte planes save space, and the width of their words in bytes.
_WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}

# A tensor from this size on is a run of its own: a chunk that holds one tensor compresses better than one that holds
# the ends of two, whose exponents differ. Shorter ones join neighbours of the same width.
_OWN_RUN_BYTES = 1 << 20

# A still shorter one (such as a norm in fp32 between bf16 matrices) joins its neighbour whatever its width.
_ANY_WIDTH_BYTES = 64 << 10


@dataclass(frozen=True)
class Run:
    """A part of a file whose words have one width.

    Attributes:
        start: Offset of the first byte.
        stop: Offset after the last byte; `stop - start` is a multiple of `width`.
        width: Bytes per word; 1 if nothing is known.
    """

    start: int
    stop: int
    width: int

    @property
    def size_bytes(self) -> int:
        """Length of the run."""
        return self.stop - self.start


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file.

    Attributes:
        kind: Its name, its type and its dimensions, as the header spells them.
        run: Where its words are.
    """

    kind: tuple[str, str, str]
    run: Run


def word_runs(path: Path, size_bytes: int) -> list[Run]:
    """Return runs that cover the whole file without gap or overlap, in order.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        return join_runs(read_tensors(stream, size_bytes), size_bytes)


def read_tensors(stream: BinaryIO, size_bytes: int) -> list[Tensor]:
    """Return the tensors of a well-formed safetensors file that are not empty, as they stand; of any other file none.

    Args:
        stream: The file, at its beginning.
        size_bytes: Its length.
    """
    start = stream.read(8)
    if len(start) < 8:
        return []
    (header_bytes,) = struct.unpack("<Q", start)
    base = 8 + header_bytes
    if header_bytes > MAX_HEADER_BYTES or base > size_bytes:
        return []
    text = stream.read(header_bytes)
    try:
        header: Any = json.loads(text)
        tensors = [_tensor(name, entry, base) for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []
    tensors = sorted((tensor for tensor in tensors if tensor.run.size_bytes), key=lambda tensor: tensor.run.start)
    ends = [base, *(tensor.run.stop for tensor in tensors)]
    starts = [*(tensor.run.start for tensor in tensors), size_bytes]
    # A hole or an overlap: not what the format allows.
    return tensors if starts == ends else []


def _tensor(name: str, entry: dict[str, Any], base: int) -> Tensor:
    start, stop = entry["data_offsets"]
    if type(start) is not int or type(stop) is not int or not 0 <= start <= stop:
        raise ValueError
    width = _WIDTHS.get(entry["dtype"], 1)
    # A size that is not a multiple of the type's width is malformed, but packing must not fail: use width 1.
    run = Run(base + start, base + stop, width if (stop - start) % width == 0 else 1)
    # Any text will do to tell one shape from another.
    return Tensor((name, entry["dtype"], str(entry.get("shape"))), run)


def join_runs(tensors: list[Tensor], size_bytes: int) -> list[Run]:
    """Return runs that cover a whole file, in order: its header, and its tensors.

    Tensors that are too short to be separate are joined (see the constants above). Without tensors it is one run.
    """
    if not tensors:
        return [Run(0, size_bytes, 1)]
    joined = [Run(0, tensors[0].run.start, 1)]
    for run in (tensor.run for tensor in tensors):
        last = joined[-1]
        shorter = min(run.size_bytes, last.size_bytes)
        if len(joined) > 1 and last.width == run.width and shorter < _OWN_RUN_BYTES:
            joined[-1] = Run(last.start, run.stop, run.width)
        elif len(joined) > 1 and run.size_bytes < _ANY_WIDTH_BYTES and run.size_bytes % last.width == 0:
            joined[-1] = Run(last.start, run.stop, last.width)
        elif len(joined) > 1 and last.size_bytes < _ANY_WIDTH_BYTES and last.size_bytes % run.width == 0:
            joined[-1] = Run(last.start, run.stop, run.width)
        else:
            joined.append(run)
    return joined
