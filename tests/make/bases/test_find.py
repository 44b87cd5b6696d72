"""What a bundle's weights are stored as differences from: tried on the words, whatever names and cards say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from bundler.format.contents.bases import MAX_DEPTH, Bases, DifferenceRun
from bundler.make.bases.choose import choose_bases
from bundler.make.bases.find import FoundBases
from bundler.plan.layout import Blob, layout
from tests.support.bundles import blob_store, lock_of, locked_repo
from tests.support.fine_tunes import Words, make_weights, safetensors_bytes, tune

WORDS, MORE = make_weights(1), make_weights(2)


def choose(folder: Path, *contents: bytes) -> tuple[list[Blob], FoundBases]:
    """Choose the bases of these contents, which stand in this order."""
    repos = [locked_repo(f"org/{n:02}", {"model.safetensors": each}) for n, each in enumerate(contents)]
    blobs = layout(lock_of(*repos)).blobs
    return blobs, choose_bases(blobs, blob_store(folder, contents))


def by_number(blobs: Iterable[Blob], bases: Bases) -> dict[int, list[int]]:
    numbers = {blob.sha256: number for number, blob in enumerate(blobs)}
    return {numbers[content]: [numbers[base] for base in others] for content, others in bases.items()}


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_the_nearest_of_what_comes_before_is_the_base(tmp_path: Path, dtype: str) -> None:
    words = make_weights(1, 1 << 19, dtype)
    far = tune(words, 5, share=1, steps=1 << (6 if dtype == "BF16" else 20))
    each = [words, far, tune(words, 6), make_weights(7, 1 << 19, dtype)]
    blobs, found = choose(tmp_path, *(safetensors_bytes({"w": one}, dtype) for one in each))
    assert by_number(blobs, found.bases) == {1: [0], 2: [0]}


def test_what_lies_in_other_files_elsewhere_and_in_another_order_has_several_bases(tmp_path: Path) -> None:
    small = make_weights(3, 40_000)
    tensors = {"a": WORDS, "b": MORE, "c": small}
    tuned = {name: tune(tensors[name], 8) for name in ("c", "b", "a")}
    files = [{"a": WORDS}, {"b": MORE, "c": small}, tuned]
    blobs, found = choose(tmp_path, *(safetensors_bytes(each) for each in files))
    [(whole, bases)] = by_number(blobs, found.bases).items()
    assert (whole, sorted(bases)) == (2, [0, 1])
    runs = found.runs[blobs[2].sha256]
    assert [run.stop for run in runs[:-1]] == [run.start for run in runs[1:]]
    assert (runs[0].start, runs[-1].stop) == (0, blobs[2].size_bytes)
    near = sum(run.size_bytes for run in runs if isinstance(run, DifferenceRun))
    assert near == sum(words.nbytes for words in tensors.values())


def test_a_tensor_of_another_shape_or_name_is_left_out(tmp_path: Path) -> None:
    tuned = {"a": tune(WORDS, 4), "b": tune(MORE, 4), "head": make_weights(5)}
    base = {"a": WORDS, "b": MORE[:-2], "lm_head": tuned["head"]}
    blobs, found = choose(tmp_path, safetensors_bytes(base), safetensors_bytes(tuned))
    runs = found.runs[blobs[1].sha256]
    assert [isinstance(run, DifferenceRun) for run in runs] == [False, True, False, False]


@pytest.mark.parametrize(("before", "after"), [("", "bert."), ("bert.", ""), ("bert.", "roberta.")])
def test_a_model_with_another_head_has_its_names_behind_another_word(
    tmp_path: Path, before: str, after: str
) -> None:
    tensors = {"layer.0.q": WORDS, "layer.1.q": MORE}
    base = {f"{before}{name}": words for name, words in tensors.items()}
    tuned = {f"{after}{name}": tune(words, 4) for name, words in tensors.items()}
    blobs, found = choose(tmp_path, safetensors_bytes(base), safetensors_bytes({**tuned, "head": make_weights(5)}))
    assert by_number(blobs, found.bases) == {1: [0]}
    runs = found.runs[blobs[1].sha256]
    assert [isinstance(run, DifferenceRun) for run in runs] == [False, True, True, False]


def test_a_row_of_checkpoints_stays_within_what_a_reader_takes(tmp_path: Path) -> None:
    row = [make_weights(1, 1 << 19)]
    for step in range(MAX_DEPTH + 2):
        row.append(tune(row[-1], step, share=1, steps=4))
    blobs, found = choose(tmp_path, *(safetensors_bytes({"w": words}) for words in row))
    depths: dict[int, int] = {0: 0}
    for number, bases in sorted(by_number(blobs, found.bases).items()):
        depths[number] = 1 + max(depths[base] for base in bases)
    assert len(depths) == len(row)
    assert max(depths.values()) == MAX_DEPTH


@pytest.mark.parametrize("content", [b"\0" * (2 << 20), b"\x08\0\0\0\0\0\0\0{not js}" + b"\1" * (2 << 20)])
def test_what_is_no_safetensors_file_has_no_base(tmp_path: Path, content: bytes) -> None:
    _, found = choose(tmp_path, content, content + b"x")
    assert found == FoundBases({}, {})


def test_numbers_of_no_floating_point_type_have_no_base(tmp_path: Path) -> None:
    words: Words = np.arange(1 << 20, dtype="<u2")
    _, found = choose(tmp_path, *(safetensors_bytes({"w": words}, "I16", step=str(n)) for n in range(2)))
    assert not found.bases
