"""Documents and rows; what is read for them is in the other tests named `test_data_*`."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from infini_llama.data import IGNORED, Documents, Rows
from infini_llama.data import rows as rows_module
from infini_llama.data.documents import Share


def rows_of(*documents: list[int], segments_per_row: int = 3, share: bool = False) -> Rows:
    """Return rows of segments of four tokens."""
    return Rows(
        Documents.of(documents),
        segment_length=4,
        segments_per_row=segments_per_row,
        padding_id=0,
        share_segments=share,
    )


def test_each_document_starts_on_a_fresh_segment() -> None:
    row = rows_of([1, 2, 3, 4, 5, 6], [7, 8])[0]
    assert row["input_ids"].tolist() == [1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 0, 0]
    assert row["document_ids"].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 2, 2, 0, 0]
    assert row["attention_mask"].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0]


def test_no_documents_first_token_and_no_padding_is_predicted() -> None:
    x = IGNORED
    assert rows_of([1, 2, 3, 4, 5, 6], [7, 8])[0]["labels"].tolist() == [x, 2, 3, 4, 5, 6, x, x, x, 8, x, x]


def test_documents_that_fill_their_segments_are_kept_apart_too() -> None:
    x = IGNORED
    assert rows_of([1, 2, 3, 4], [5, 6, 7, 8])[0]["labels"].tolist()[:8] == [x, 2, 3, 4, x, 6, 7, 8]


def test_a_long_document_goes_on_in_the_next_row() -> None:
    rows = rows_of(list(range(1, 15)), segments_per_row=2)
    assert [row["input_ids"].tolist() for row in (rows[0], rows[1])] == [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [9, 10, 11, 12, 13, 14, 0, 0],
    ]
    assert rows[1]["labels"][0] == IGNORED


@pytest.mark.parametrize("share", [False, True])
def test_no_token_is_lost_or_repeated(share: bool) -> None:
    documents = [list(range(start, start + length)) for start, length in [(1, 1), (10, 4), (20, 9), (30, 13)]]
    rows = rows_of(*documents, share=share)
    found = [t for i in range(len(rows)) for t in rows[i]["input_ids"][rows[i]["attention_mask"].bool()].tolist()]
    assert found == [token for tokens in documents for token in tokens]
    assert rows.tokens == 27


def test_documents_that_share_segments_leave_padding_at_the_very_end_only() -> None:
    x = IGNORED
    rows = rows_of([1, 2, 3], [], [4], [5, 6, 7, 8, 9], [10], segments_per_row=2, share=True)
    assert [row["input_ids"].tolist() for row in (rows[0], rows[1])] == [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [9, 10, 0, 0, 0, 0, 0, 0],
    ]
    assert rows[0]["document_ids"].tolist() == [1, 1, 1, 3, 4, 4, 4, 4]
    assert rows[0]["labels"].tolist() == [x, 2, 3, x, x, 6, 7, 8]
    assert rows[1]["labels"].tolist() == [x] * 8
    assert (len(rows), rows.used_share) == (2, 10 / 16)


def test_lengths_of_real_documents_fill_segments_only_if_they_share_them() -> None:
    # Lengths as measured on the web: log-normal, median 550, mean 908 tokens.
    lengths = np.random.default_rng(0).lognormal(np.log(550), 1.0, 4000).astype(int) + 1
    ends = np.cumsum(lengths)
    documents = Documents(np.zeros(ends[-1], dtype=np.uint16), ends)
    shares = {
        share: Rows(
            documents, segment_length=2048, segments_per_row=4, padding_id=0, share_segments=share
        ).used_share
        for share in (False, True)
    }
    assert shares[False] < 0.45
    assert shares[True] > 0.99


def test_a_document_without_tokens_takes_no_segment() -> None:
    rows = rows_of([], [1, 2], [], [3])
    assert [row["input_ids"].tolist() for row in (rows[0],)] == [[1, 2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]]
    assert len(rows) == 1


def test_a_row_beyond_the_last_is_refused() -> None:
    rows = rows_of([1, 2], [3])
    with pytest.raises(IndexError):
        rows[1]


def test_a_share_of_the_documents_is_held_out_at_even_distances() -> None:
    kept, held_out = Documents.of([[number] * 2 for number in range(8)]).split(0.25)
    assert [tokens.tolist() for tokens in held_out] == [[3, 3], [7, 7]]
    assert [tokens[0].item() for tokens in kept] == [0, 1, 2, 4, 5, 6]
    assert (kept.tokens, held_out.tokens) == (12, 4)


@pytest.mark.parametrize("share", [False, True])
def test_rows_are_the_same_wherever_the_numbers_in_memory_stand(
    monkeypatch: pytest.MonkeyPatch, share: bool
) -> None:
    generator = np.random.default_rng(1)
    documents = [list(range(1, 1 + length)) for length in generator.integers(0, 23, 40)]
    rows = rows_of(*documents, segments_per_row=2, share=share)
    whole = [rows[index] for index in range(len(rows))]
    monkeypatch.setattr(rows_module, "_STRIDE", 3)
    sparse = rows_of(*documents, segments_per_row=2, share=share)
    assert len(sparse) == len(whole)
    for index, row in enumerate(whole):
        for name, x in row.items():
            assert sparse[index][name].tolist() == x.tolist()


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.999])
def test_the_place_of_a_held_out_document_is_computed_and_not_kept(fraction: float) -> None:
    for taken in (True, False):
        share = Share(fraction, taken=taken)
        places = np.flatnonzero(share.has(0, 500)).tolist()
        assert [share.place(index) for index in range(len(places))] == places
        assert share.count(500) == len(places)


def test_memory_does_not_grow_with_the_number_of_documents(tmp_path: Path) -> None:
    count, length = 2_000_000, 5
    ends = np.memmap(tmp_path / "ends.bin", np.int64, mode="w+", shape=(count,))
    ends[:] = np.arange(1, count + 1) * length
    # 10^7 tokens without a byte.
    tokens = np.broadcast_to(np.uint16(7), (count * length,))
    tracemalloc.start()
    try:
        kept, held_out = Documents(tokens, ends).split(0.01)
        rows = Rows(kept, segment_length=4, segments_per_row=4, padding_id=0)
        assert rows[len(rows) - 1]["document_ids"].max() == len(kept)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(kept), held_out.tokens) == (1_980_000, 20_000 * length)
    # Of 16 MB of ends; a block of lengths and a number for each 4,096 documents.
    assert peak < 1_000_000
