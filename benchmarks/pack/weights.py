"""Weights to measure on, and what they could be compressed to: runs as a process of its own, since it needs numpy.

    python -m benchmarks.pack.weights cast SOURCE DTYPE OUT   a safetensors file's F32 tensors as BF16, F16 or F32
    python -m benchmarks.pack.weights generate SHAPE OUT      a Llama of random weights in shards, with its config
    python -m benchmarks.pack.weights entropy FOLDER          JSON on stdout

Generated weights are normal; every tensor has a scale of its own and every row a factor, as trained ones have. The
same numpy gives the same bytes. Memory stays at a few blocks, whatever the size.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float32]

SEED = 20240410
SHARD_BYTES = 500_000_000
_BLOCK_WEIGHTS = 1 << 22
_BYTES = {"BF16": 2, "F16": 2, "F32": 4}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a Llama; the parts of its tensors follow."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and dimensions of each tensor, in the order of the model."""
        kv = self.hidden // self.heads * self.kv_heads
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}"
            yield f"{prefix}.self_attn.q_proj.weight", (self.hidden, self.hidden)
            yield f"{prefix}.self_attn.k_proj.weight", (kv, self.hidden)
            yield f"{prefix}.self_attn.v_proj.weight", (kv, self.hidden)
            yield f"{prefix}.self_attn.o_proj.weight", (self.hidden, self.hidden)
            yield f"{prefix}.mlp.gate_proj.weight", (self.intermediate, self.hidden)
            yield f"{prefix}.mlp.up_proj.weight", (self.intermediate, self.hidden)
            yield f"{prefix}.mlp.down_proj.weight", (self.hidden, self.intermediate)
            yield f"{prefix}.input_layernorm.weight", (self.hidden,)
            yield f"{prefix}.post_attention_layernorm.weight", (self.hidden,)
        yield "model.norm.weight", (self.hidden,)
        yield "lm_head.weight", (self.vocabulary, self.hidden)

    def config(self) -> dict[str, Any]:
        """Return a config.json that transformers builds this model from."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": False,
            "dtype": "bfloat16",
        }


SHAPES = {
    "tiny": Shape(hidden=256, intermediate=512, layers=2, heads=4, kv_heads=2, vocabulary=2000),
    # TinyLlama-1.1B's sizes: 2.2 GB.
    "1b": Shape(hidden=2048, intermediate=5632, layers=22, heads=32, kv_heads=4, vocabulary=32000),
    # Llama-3.2-3B's sizes, with embeddings of its own at the output: 7.2 GB.
    "3b": Shape(hidden=3072, intermediate=8192, layers=28, heads=24, kv_heads=8, vocabulary=128256),
    # Llama-3-8B's sizes: 16.1 GB.
    "8b": Shape(hidden=4096, intermediate=14336, layers=32, heads=32, kv_heads=8, vocabulary=128256),
}


def to_bf16(values: Floats) -> Words:
    """Round to the nearest bfloat16, ties to even; there is no NaN among these weights."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def generate(shape: Shape, folder: Path) -> None:
    """Write a model of random BF16 weights in shards of about `SHARD_BYTES`."""
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    filled = 0
    for name, dims in shape.tensors():
        size = 2 * math.prod(dims)
        if filled and filled + size > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append((name, dims))
        filled += size
    weight_map = {}
    number = 0
    for index, shard in enumerate(shards):
        file = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        with (folder / file).open("wb") as stream:
            _write_header(stream, [(name, "BF16", dims) for name, dims in shard])
            for name, dims in shard:
                weight_map[name] = file
                _write_random(stream, dims, np.random.default_rng([SEED, number]))
                number += 1
    total = sum(2 * math.prod(dims) for _, dims in shape.tensors())
    index_json = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_json, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2) + "\n")


def _write_random(stream: BinaryIO, dims: tuple[int, ...], random: np.random.Generator) -> None:
    if len(dims) == 1:
        stream.write(to_bf16(1 + 0.1 * random.standard_normal(dims[0], dtype=np.float32)).tobytes())
        return
    rows, columns = dims
    scale = math.exp(random.normal(math.log(0.02), 0.35))
    step = max(1, _BLOCK_WEIGHTS // columns)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        factors = scale * np.exp(0.2 * random.standard_normal((count, 1), dtype=np.float32))
        block = random.standard_normal((count, columns), dtype=np.float32)
        np.multiply(block, factors, out=block)
        stream.write(to_bf16(block).tobytes())


def cast(source: Path, dtype: str, out: Path) -> None:
    """Write `source` with its F32 tensors as `dtype`; other tensors stay as they are."""
    header, begin = _read_header(source)
    tensors = [(name, dtype if t["dtype"] == "F32" else t["dtype"], tuple(t["shape"])) for name, t in header]
    with source.open("rb") as stream, out.open("wb") as target:
        _write_header(target, tensors, sizes=[_cast_size(t, dtype) for _, t in header])
        for _, tensor in header:
            first, end = tensor["data_offsets"]
            stream.seek(begin + first)
            content = stream.read(end - first)
            if tensor["dtype"] == "F32":
                content = _as(dtype, np.frombuffer(content, dtype="<f4"))
            target.write(content)


def _as(dtype: str, values: Floats) -> bytes:
    match dtype:
        case "BF16":
            return to_bf16(values).tobytes()
        case "F16":
            return values.astype("<f2").tobytes()
        case "F32":
            return values.tobytes()
    raise ValueError(f"expected BF16, F16 or F32, found {dtype}")


def _cast_size(tensor: dict[str, Any], dtype: str) -> int:
    first, end = (int(offset) for offset in tensor["data_offsets"])
    return (end - first) // 4 * _BYTES[dtype] if tensor["dtype"] == "F32" else end - first


def entropy(folder: Path) -> dict[str, float | int]:
    """Return what the BF16 weights in `folder` can be compressed to, byte by byte.

    A word is rotated left by one, which puts the exponent into one byte and sign and mantissa into the other. The
    first counts with its order-0 entropy, over all weights together; the second counts in full.
    """
    total = np.zeros(256, dtype=np.int64)
    by_tensor = 0.0
    for path in sorted(folder.glob("*.safetensors")):
        header, begin = _read_header(path)
        with path.open("rb") as stream:
            for _, tensor in header:
                if tensor["dtype"] == "BF16":
                    first, end = tensor["data_offsets"]
                    counts = _exponents(stream, begin + first, end - first)
                    by_tensor += counts.sum() * _bits(counts)
                    total += counts
    weights = int(total.sum())
    return {
        "weights": weights,
        "exponent_bits": _bits(total),
        "exponent_bits_by_tensor": by_tensor / weights,
        "bound_bytes": math.ceil(weights * (1 + _bits(total) / 8)),
        "bound_fraction": (1 + _bits(total) / 8) / 2,
    }


def _exponents(stream: BinaryIO, begin: int, size: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(256, dtype=np.int64)
    stream.seek(begin)
    while size:
        words = np.frombuffer(stream.read(min(size, 2 * _BLOCK_WEIGHTS)), dtype="<u2")
        size -= words.nbytes
        counts += np.bincount((words >> 7) & 0xFF, minlength=256)
    return counts


def _bits(counts: npt.NDArray[np.int64]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def _read_header(path: Path) -> tuple[list[tuple[str, dict[str, Any]]], int]:
    """Return the tensors of a safetensors file in the order of their bytes, and where these begin."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return sorted(header.items(), key=lambda item: item[1]["data_offsets"]), 8 + length


def _write_header(
    stream: BinaryIO, tensors: list[tuple[str, str, tuple[int, ...]]], sizes: list[int] | None = None
) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for index, (name, dtype, dims) in enumerate(tensors):
        size = sizes[index] if sizes else math.prod(dims) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(dims), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(struct.pack("<Q", len(text)) + text)


def main(arguments: list[str]) -> None:
    """Do what the command line says (see the module's text)."""
    match arguments:
        case ["cast", source, dtype, out]:
            cast(Path(source), dtype, Path(out))
        case ["generate", shape, out]:
            generate(SHAPES[shape], Path(out))
        case ["entropy", folder]:
            sys.stdout.write(json.dumps(entropy(Path(folder))) + "\n")
        case _:
            sys.exit(f"usage: see the beginning of {__file__}")


if __name__ == "__main__":
    main(sys.argv[1:])
