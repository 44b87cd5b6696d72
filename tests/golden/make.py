"""Makes the golden bundles. `python -m tests.golden.make` writes those that are missing, and never rewrites one.

A golden bundle is what a release of this format version wrote. Every later version must install it, so a file here
changes never; a new format version adds files of its own.
"""

from __future__ import annotations

import json
import random
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zstandard

from bundler.format.codec.codecs import CodecChoice
from bundler.format.index import DELTA_VERSION, FIRST_VERSION, FORMAT_VERSION
from bundler.format.storage.destinations import VolumeDestination
from bundler.format.storage.volume_names import volume_files
from bundler.make.delta import Base
from bundler.make.pack import PackResult, pack
from bundler.plan.layout import Blob
from tests.support.bundles import OTHER_COMMIT, blob_store, lock_of, locked_repo
from tests.support.fine_tunes import safetensors_bytes, tune

HERE = Path(__file__).parent
CODECS: tuple[CodecChoice, ...] = ("auto", "zstd")
KINDS = (*CODECS, "volumes", "delta", "differences", "sorted", "exponents")
_VERSIONS = {"delta": DELTA_VERSION, "differences": FORMAT_VERSION, "sorted": FORMAT_VERSION}


def _weights() -> bytes:
    """A safetensors file with a tensor of each width; they repeat, so that golden files are small."""
    tensors = {
        "bf16": ("BF16", (np.arange(600_000) % 977 + 0x3C00).astype("<u2").tobytes()),
        "fp16": ("F16", (np.arange(600_000) % 501 * 77).astype("<u2").tobytes()),
        "fp32": ("F32", (np.arange(300_000) % 999 * 100_003).astype("<u4").tobytes()),
        "int8": ("I8", bytes(range(256)) * 4096),
    }
    header, data = {}, b""
    for name, (dtype, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [len(raw)], "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


FILES: dict[str, bytes] = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": _weights(),
    "1_Pooling/" + "long-name/" * 12 + "config.json": b"{}",
    "empty.txt": b"",
    "noise.bin": random.Random(0).randbytes(3000),
}
PREPARED = {"default/0.0.0/abc/docs-train.arrow": b"arrow" * 500, "default/0.0.0/abc/dataset_info.json": b"{}"}
LOCK = lock_of(
    locked_repo("org/model", FILES, aliases=["model"], absent=["adapter_config.json"], lfs=["model.safetensors"]),
    locked_repo("org/Data", {"d.txt": b"d"}, kind="dataset", revision="v1.0", prepared=PREPARED),
    name="golden",
)
# The next state of the same bundle, which the delta leads to.
NEXT_FILES = FILES | {"config.json": b'{"model_type": "llama", "use_cache": true}', "new.txt": b"new"}
NEXT_LOCK = lock_of(
    locked_repo("org/model", NEXT_FILES, commit=OTHER_COMMIT, aliases=["model"], lfs=["model.safetensors"]),
    name="golden",
)
CONTENTS = [*NEXT_FILES.values(), FILES["config.json"], b"d", *PREPARED.values()]
# A base and two fine-tunes, one in two files; of few different words, so that golden files are small.
_WORDS = np.where(np.random.default_rng(0).random(1 << 20) < 0.02, 0x3C80, 0xBC00).astype("<u2")
_HALVES = {"a": _WORDS[: 1 << 19], "b": _WORDS[1 << 19 :]}
TUNES = {
    "a-base": {"model.safetensors": safetensors_bytes(_HALVES)},
    "b-tuned": {
        f"model-{name}.safetensors": safetensors_bytes({name: tune(words, 1, share=0.002)})
        for name, words in _HALVES.items()
    },
    "c-wide": {
        "model.safetensors": safetensors_bytes({n: tune(words, 2, share=0.002) for n, words in _HALVES.items()})
    },
}
# A base of which a third of the words changes.
SORTED = {
    "a-base": {"model.safetensors": safetensors_bytes(_HALVES)},
    "b-tuned": {
        "model.safetensors": safetensors_bytes(
            {name: words + (np.arange(len(words)) % 3 == 0) for name, words in _HALVES.items()}
        )
    },
}
SORTED_LOCK = lock_of(*(locked_repo(f"org/{name}", files) for name, files in SORTED.items()), name="sorted")
TUNES_LOCK = lock_of(*(locked_repo(f"org/{name}", files) for name, files in TUNES.items()), name="tuned")
CONTENTS += [content for files in (*TUNES.values(), *SORTED.values()) for content in files.values()]
# Blocks of exponents near each other and wide apart, with zeros, the last one short; powers of two, so that golden
# files are small.
_DRAWN = np.random.default_rng(3)
_SHARES = [0.45, 0.25, 0.15, 0.08, 0.04, 0.02, 0.01]
EXPONENTS = {
    "model.safetensors": safetensors_bytes(
        {
            name: (_DRAWN.choice(exponents, count, p=_SHARES) << 7).astype("<u2")
            for name, exponents, count in (
                ("near", [125, 124, 123, 122, 121, 120, 0], 3 << 17),
                ("wide", [0, 60, 70, 80, 90, 100, 128], 150_000),
            )
        }
    )
}
EXPONENTS_LOCK = lock_of(locked_repo("org/exponents", EXPONENTS), name="exponents")
CONTENTS += EXPONENTS.values()
# The largest chunk and the index fit; the whole bundle takes three.
VOLUME_BYTES = 9_000


def golden_path(kind: str) -> Path:
    """Return where the golden bundle of what is written now stands: of a codec, "delta", or the name of volumes."""
    return HERE / f"format-{_VERSIONS.get(kind, FIRST_VERSION)}-{kind}.tar.zst"


def zstd_version() -> str:
    """Return the release of the zstd library in use: other releases may compress to other bytes."""
    return ".".join(map(str, zstandard.ZSTD_VERSION))


def pack_kind(kind: str, store: Callable[[Blob], Path], path: Path) -> PackResult:
    """Pack what the golden bundle of a kind holds."""
    if kind == "volumes":
        return pack(LOCK, store, VolumeDestination(path, VOLUME_BYTES))
    if kind == "differences":
        return pack(TUNES_LOCK, store, path)
    if kind == "sorted":
        return pack(SORTED_LOCK, store, path)
    if kind == "exponents":
        return pack(EXPONENTS_LOCK, store, path)
    if kind == "delta":
        return pack(NEXT_LOCK, store, path, base=Base.open(golden_path("auto")))
    return pack(LOCK, store, path, codec="zstd" if kind == "zstd" else "auto")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        store = blob_store(Path(scratch), CONTENTS)
        for kind in KINDS:
            path = golden_path(kind)
            if not path.exists() and not volume_files(path):
                digest = pack_kind(kind, store, path).digest
                path.with_suffix(".json").write_text(
                    json.dumps({"digest": digest, "zstd": zstd_version()}, indent=1) + "\n"
                )


if __name__ == "__main__":
    main()
