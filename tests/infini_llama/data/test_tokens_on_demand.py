"""Tokens that are not kept: the same documents and rows as where they are kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from infini_llama.data import Prepared, Rows, prepare_documents, records
from infini_llama.data import tokens_on_demand as on_demand
from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.errors import TrainingDataError
from infini_llama.settings.sections import DataSettings

TOKENIZER = byte_tokenizer()


def prepared(raw_data: Path | str, cache: Path, *, keep: bool, **keys: Any) -> Prepared:
    settings = DataSettings(segments_per_row=1, keep_tokens=keep, on_bad_record="skip", **keys)
    return prepare_documents(raw_data, TOKENIZER, settings, cache)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a folder with all kinds of files, byte order marks, bad records, and documents of several pieces."""
    import pyarrow
    from pyarrow import parquet

    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf" + "Grüße, und mehr. ".encode() * 30)
    lines = [
        '{"text": "one"}',
        "",
        "{",
        '{"text": " "}',
        json.dumps({"text": "zwei\n\nDrei ä " * 40}),
        '{"text": "four"}',
    ]
    (folder / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    texts = [None if number == 3 else f"row {number} " * number for number in range(1, 20)]
    parquet.write_table(pyarrow.table({"text": texts}), folder / "c.parquet", row_group_size=4)
    return folder


def test_documents_and_rows_are_those_of_tokens_that_are_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PIECE", 100)
    monkeypatch.setattr(on_demand, "_OPEN_FILES", 2)
    kept, made = (prepared(corpus, tmp_path / "cache", keep=keep) for keep in (True, False))
    assert len(made.documents) == 1 + 3 + 18
    assert [tokens.tolist() for tokens in made.documents] == [tokens.tolist() for tokens in kept.documents]
    assert {**made.record()} == {**kept.record()}
    rows, others = (
        Rows(data.documents, segment_length=8, segments_per_row=4, padding_id=0, share_segments=True)
        for data in (kept, made)
    )
    for index in reversed(range(len(rows))):
        assert {name: x.tolist() for name, x in others[index].items()} == {
            name: x.tolist() for name, x in rows[index].items()
        }


def test_a_row_of_a_dataset_is_found_by_its_number() -> None:
    import datasets

    dataset = datasets.Dataset.from_dict({"text": ["one", "two"], "other": [1, 2]})
    assert on_demand.Texts([], dataset, "text").read(0, 1) == "two"


def test_places_are_kept_and_no_tokens(corpus: Path, tmp_path: Path) -> None:
    made = prepared(corpus, tmp_path / "cache", keep=False)
    assert {path.name: path.stat().st_size for path in made.place.iterdir() if path.suffix == ".bin"} == {
        "ends.bin": 22 * 8,
        "places.bin": 22 * 12,
    }
    again = prepared(corpus, tmp_path / "cache", keep=False)
    assert again.from_cache


def test_a_share_of_them_is_held_out_as_of_others(corpus: Path, tmp_path: Path) -> None:
    kept, made = (
        prepared(corpus, tmp_path / "cache", keep=keep).documents.split(0.3)[1] for keep in (True, False)
    )
    assert [tokens.tolist() for tokens in made] == [tokens.tolist() for tokens in kept]


def test_a_compressed_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "one"}\n'))
    with pytest.raises(
        TrainingDataError, match=r"a\.jsonl\.gz: expected files that can be read at any place"
    ) as caught:
        prepared(path, tmp_path / "cache", keep=False)
    assert "plain JSON Lines, Parquet or a dataset" in str(caught.value.hint)
    assert not list((tmp_path / "cache").glob("*/ends.bin"))


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ('{"text": "one"}\n{"text": "threeee"}\n', "document 2 has 8 tokens, and had 4"),
        ('{"text": "one"}\n', "cannot be read again at 16: malformed JSON"),
    ],
    ids=["another", "cut"],
)
def test_text_that_changed_meanwhile_is_noticed(tmp_path: Path, now: str, words: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    documents = prepared(path, tmp_path / "cache", keep=False).documents
    path.write_text(now)
    with pytest.raises(TrainingDataError, match=words):
        documents[1]
