"""Finding the words in safetensors files, and packing such files: well-formed, odd and broken ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler.format import cut as cut_module
from bundler.format.codec import safetensors
from bundler.format.codec.codecs import find_codec
from bundler.format.codec.safetensors import Run, word_runs
from bundler.format.reader import BundleReader
from tests.support.bundles import locked_repo, tiny_bundle


def safetensors_file(path: Path, tensors: list[tuple[str, int]], **header: Any) -> Path:
    """Write a file with tensors of (dtype, bytes), one after the other."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for number, (dtype, size) in enumerate(tensors):
        entries[f"t{number}"] = {"dtype": dtype, "shape": [size], "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(entries | header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))
    return path


def runs(path: Path) -> list[tuple[int, int]]:
    """(size, width) of each run behind the header."""
    found = word_runs(path, path.stat().st_size)
    assert found[0].start == 0
    assert [run.stop for run in found[:-1]] == [run.start for run in found[1:]]
    assert found[-1].stop == path.stat().st_size
    assert all(run.size_bytes % run.width == 0 for run in found)
    return [(run.size_bytes, run.width) for run in found[1:]]


M = 1 << 20


def test_large_tensors_are_runs_of_their_own(tmp_path: Path) -> None:
    path = safetensors_file(tmp_path / "x", [("BF16", 2 * M), ("BF16", 3 * M), ("F32", M), ("I64", M)])
    assert runs(path) == [(2 * M, 2), (3 * M, 2), (M, 4), (M, 1)]


def test_short_tensors_join_their_neighbours(tmp_path: Path) -> None:
    tensors = [("BF16", 1000), ("BF16", 2 * M), ("F32", 4096), ("BF16", 2 * M), ("U8", 3), ("F16", 2 * M)]
    assert runs(safetensors_file(tmp_path / "x", tensors)) == [
        (2 * M + 1000 + 4096, 2),
        (2 * M, 2),
        (3, 1),
        (2 * M, 2),
    ]


def test_tensors_may_stand_in_any_order_in_the_header_and_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "x"
    header = {
        "b": {"dtype": "BF16", "shape": [M], "data_offsets": [4 * M, 6 * M]},
        "none": {"dtype": "F32", "shape": [0], "data_offsets": [4 * M, 4 * M]},
        "a": {"dtype": "F32", "shape": [M], "data_offsets": [0, 4 * M]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(6 * M))
    assert runs(path) == [(4 * M, 4), (2 * M, 2)]


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "too short for a length": b"1234567",
    "a length past the end": struct.pack("<Q", 1 << 40) + b"{}",
    "no JSON": struct.pack("<Q", 8) + b"nonsense" + bytes(100),
    "a list": struct.pack("<Q", 2) + b"[]" + bytes(100),
    "deep nesting": struct.pack("<Q", 200_000) + b"[" * 200_000,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_not_safetensors_has_no_words(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(BROKEN[kind])
    assert word_runs(path, len(BROKEN[kind])) == [Run(0, len(BROKEN[kind]), 1)]


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "BF16", "data_offsets": [0, 2 * M + 2]},  # past the end
        {"dtype": "BF16", "data_offsets": [2, 2 * M - 2]},  # holes
        {"dtype": "BF16", "data_offsets": [-2, 2 * M]},
        {"dtype": "BF16", "data_offsets": [True, 2 * M]},
        {"dtype": "BF16", "data_offsets": [2 * M, 0]},
        {"dtype": "BF16", "data_offsets": [0]},
        {"dtype": ["BF16"], "data_offsets": [0, 2 * M]},
        {"dtype": "BF16"},
        None,
    ],
)
def test_a_malformed_header_costs_compression_and_nothing_else(tmp_path: Path, entry: Any) -> None:
    path = safetensors_file(tmp_path / "x", [("U8", 2 * M)], t0=entry)
    assert all(run.width == 1 for run in word_runs(path, path.stat().st_size))


dtypes = st.sampled_from(["BF16", "F16", "F32", "F64", "I64", "U8", "F8_E4M3", "NEW"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=st.lists(st.tuples(dtypes, st.integers(0, 900)), max_size=8),
    content=st.binary(min_size=1, max_size=300),
    cut=st.integers(0, 40),
)
def test_any_safetensors_file_whole_or_cut_comes_out_as_it_went_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensors: list[tuple[str, int]], content: bytes, cut: int
) -> None:
    # Small limits make every boundary come up with small files.
    monkeypatch.setattr(cut_module, "CHUNK_BYTES", 512)
    monkeypatch.setattr(cut_module, "LARGE_BLOB_BYTES", 1)
    monkeypatch.setattr(safetensors, "_OWN_RUN_BYTES", 200)
    monkeypatch.setattr(safetensors, "_ANY_WIDTH_BYTES", 50)
    file = safetensors_file(tmp_path / "x.safetensors", tensors)
    base = len(file.read_bytes()) - sum(size for _, size in tensors)
    data = file.read_bytes()[:base] + (content * 4000)[: sum(size for _, size in tensors)]
    data = data[: len(data) - cut]
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", {"m.safetensors": data}), contents=[data])
    with BundleReader(bundle) as reader, reader.open_blob(reader.plan.layout.blobs[0]) as stream:
        assert stream.read() == data


DTYPES = [
    *(
        "BOOL",
        "U8",
        "I8",
        "F4",
        "F6_E2M3",
        "F6_E3M2",
        "F8_E5M2",
        "F8_E4M3",
        "F8_E8M0",
        "I16",
        "U16",
        "F16",
        "BF16",
    ),
    *("I32", "U32", "F32", "C64", "F64", "I64", "U64"),
]
claims = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, "bf16", "", "NEW"]),
        # Overlaps, holes, sizes of zero, words off their alignment, ends before beginnings and past the file.
        "data_offsets": st.tuples(st.integers(-3, 900), st.integers(-3, 900)),
    }
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.dictionaries(st.text(max_size=5), claims, max_size=6),
    padding=st.integers(0, 9),
    order=st.sampled_from("<>"),
    wrong_by=st.sampled_from([0, 0, 0, -1, 1, 7, 1 << 33]),
    data=st.binary(max_size=900),
)
def test_whatever_a_header_claims_no_byte_is_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    header: dict[str, Any],
    padding: int,
    order: str,
    wrong_by: int,
    data: bytes,
) -> None:
    monkeypatch.setattr(cut_module, "CHUNK_BYTES", 512)
    monkeypatch.setattr(cut_module, "LARGE_BLOB_BYTES", 1)
    monkeypatch.setattr(safetensors, "_OWN_RUN_BYTES", 200)
    monkeypatch.setattr(safetensors, "_ANY_WIDTH_BYTES", 50)
    text = json.dumps(header).encode() + b" " * padding
    content = struct.pack(f"{order}Q", max(len(text) + wrong_by, 0)) + text + data
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", {"m.safetensors": content}), contents=[content])
    with BundleReader(bundle) as reader, reader.open_blob(reader.plan.layout.blobs[0]) as stream:
        assert stream.read() == content


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_every_dtype_come_out_as_they_went_in(tmp_path: Path, dtype: str) -> None:
    tensors = [(dtype, 2 * M), (dtype, 0), (dtype, 1001), (dtype, M + 8)]
    path = safetensors_file(tmp_path / "x", tensors)
    header = path.read_bytes()[: -sum(size for _, size in tensors)]
    numbers = np.random.default_rng(3).standard_normal((3 * M + 1009) // 4 + 1, np.float32) * np.float32(0.02)
    content = header + numbers.tobytes()[: 3 * M + 1009]
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", {"m.safetensors": content}), contents=[content])
    width = {"BF16": 2, "F16": 2, "F32": 4}.get(dtype, 1)
    with BundleReader(bundle) as reader, reader.open_blob(reader.plan.layout.blobs[0]) as stream:
        assert stream.read() == content
        # Integers and narrow floats have no exponent in a byte of its own: zstd finds in them what there is.
        assert {find_codec(chunk.codec).width for chunk in reader.index.chunks} == {1, width}
