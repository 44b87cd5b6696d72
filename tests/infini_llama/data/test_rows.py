"""Documents and rows; what is read for them is in the other tests named `test_data_*`."""

from __future__ import annotations

import pytest

from infini_llama.data import IGNORED, Documents, Rows


def rows_of(*documents: list[int], segments_per_row: int = 3) -> Rows:
    """Return rows of segments of four tokens."""
    return Rows(Documents.of(documents), segment_length=4, segments_per_row=segments_per_row, padding_id=0)


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


def test_no_token_is_lost_or_repeated() -> None:
    documents = [list(range(start, start + length)) for start, length in [(1, 1), (10, 4), (20, 9), (30, 13)]]
    rows = rows_of(*documents)
    found = [t for i in range(len(rows)) for t in rows[i]["input_ids"][rows[i]["attention_mask"].bool()].tolist()]
    assert found == [token for tokens in documents for token in tokens]
    assert rows.tokens == 27


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
