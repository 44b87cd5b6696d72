"""Weights that are near each other, as those of fine-tunes are: safetensors files, made from seeds."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[Any]
DTYPES = {"BF16": "<u2", "F16": "<u2", "F32": "<u4"}


def make_weights(seed: int, count: int = 1 << 20, dtype: str = "BF16") -> Words:
    """Return words of `count` numbers as trained weights have them."""
    numbers = np.random.default_rng(seed).standard_normal(count, np.float32) * np.float32(0.02)
    words = numbers.view("<u4")
    return words if dtype == "F32" else (words >> 16).astype("<u2")


def tune(words: Words, seed: int, share: float = 0.3, steps: int = 3) -> Words:
    """Return `words` with a share of them moved by a few steps, up or down."""
    random = np.random.default_rng(seed)
    moved = random.random(len(words)) < share
    return (words + (moved * random.integers(-steps, steps + 1, len(words))).astype(words.dtype)).astype(
        words.dtype
    )


def safetensors_bytes(
    tensors: Mapping[str, Words],
    dtype: str = "BF16",
    shapes: Mapping[str, list[int]] | None = None,
    **metadata: str,
) -> bytes:
    """Return a safetensors file with these tensors, in this order; of one dimension unless `shapes` says other ones."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for name, words in tensors.items():
        shape = (shapes or {}).get(name, [len(words)])
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + words.nbytes]}
        offset += words.nbytes
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(words.tobytes() for words in tensors.values())
