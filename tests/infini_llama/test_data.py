from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bundler.errors import TrainingDataError
from infini_llama.data import IGNORED, Rows, find_files, read_corpus, tokenize


def rows_of(*documents: list[int], segments_per_row: int = 3) -> Rows:
    """Return rows of segments of four tokens."""
    tensors = [torch.tensor(tokens, dtype=torch.int32) for tokens in documents]
    return Rows(tensors, segment_length=4, segments_per_row=segments_per_row, padding_id=0)


def test_a_folder_is_searched_for_text_files_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "a/readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [p.relative_to(tmp_path).as_posix() for p in find_files(tmp_path)] == ["a/b/c.txt", "a/z.txt", "b.txt"]


def test_a_file_that_is_named_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("words")
    assert read_corpus(tmp_path / "notes.md").texts == ["words"]


def test_bytes_that_are_not_utf8_are_named_with_file_and_offset(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "c.txt").write_bytes(b"\x80")
    with pytest.raises(TrainingDataError) as caught:
        read_corpus(tmp_path)
    assert "2 of 3 files cannot be used" in caught.value.message
    assert f"{tmp_path}/b.txt: byte 3 is not UTF-8 (found 0xe9" in caught.value.message
    assert f"{tmp_path}/c.txt: byte 0 is not UTF-8 (found 0x80" in caught.value.message


def test_a_folder_without_text_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"holds no \.txt file"):
        read_corpus(tmp_path)


def test_nothing_but_blank_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(TrainingDataError, match="nothing but white space"):
        read_corpus(tmp_path)


def test_blank_files_among_others_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("words")
    corpus = read_corpus(tmp_path)
    assert (corpus.texts, corpus.files, corpus.blank) == (["words"], 2, 1)


def test_the_corpus_digest_follows_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    first = read_corpus(tmp_path).sha256
    (tmp_path / "a.txt").write_text("two")
    assert read_corpus(tmp_path).sha256 != first


def test_a_tokenizer_without_an_end_of_text_token_is_refused_where_one_is_wanted() -> None:
    with pytest.raises(TrainingDataError, match="no end-of-text token"):
        tokenize(["x"], SimpleNamespace(eos_token_id=None), end_of_document=True)


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
