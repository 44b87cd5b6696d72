"""Several sources of one training."""

from __future__ import annotations

from pathlib import Path

import pytest

from infini_llama.data import prepare_sources
from infini_llama.data.sources import Sources, split_each
from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.errors import TrainingDataError
from infini_llama.settings.sections import DataSettings, SourceSettings

TOKENIZER = byte_tokenizer()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return two files of JSON lines, whose texts have different keys."""
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    one.write_text('{"text": "aa"}\n' * 4)
    other.write_text('{"code": "bbb"}\n' * 8 + '{"text": "x"}\n')
    return [one, other]


def prepared(*sources: SourceSettings, cache: Path) -> Sources:
    settings = DataSettings(segments_per_row=1, on_bad_record="skip", sources=sources)
    return prepare_sources(None, TOKENIZER, settings, cache)


@pytest.fixture
def both(files: list[Path], tmp_path: Path) -> Sources:
    return prepared(
        SourceSettings(raw_data=str(files[0]), weight=3),
        SourceSettings(raw_data=str(files[1]), text_key="code"),
        cache=tmp_path / "cache",
    )


def test_each_source_has_its_own_key_of_the_text(both: Sources) -> None:
    assert [len(part.documents) for part in both.parts] == [4, 8]
    assert both.shares == [0.75, 0.25]


def test_the_record_of_a_mixture_has_sums_and_each_source(both: Sources) -> None:
    record = both.record()
    assert (record["documents"], record["tokens"], record["bad_records"]) == (12, 4 * 3 + 8 * 4, 1)
    assert record["path"] == ", ".join(part.source for part in both.parts)
    assert [(source["weight"], source["documents"]) for source in record["sources"]] == [(3, 4), (1.0, 8)]
    assert "place" not in record
    assert [source["from_cache"] for source in both.record(with_places=True)["sources"]] == [False, False]


def test_documents_of_each_source_are_held_out(both: Sources) -> None:
    kept, held_out = split_each(both, 0.25)
    assert [len(documents) for documents in kept] == [3, 6]
    assert [len(documents) for documents in held_out] == [1, 2]
    with pytest.raises(TrainingDataError, match=r"found 4 to train on and 0 held out, of 4 in .*one\.jsonl"):
        split_each(both, 0.2)


def test_the_same_text_twice_is_refused(files: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(files[0].read_bytes())
    with pytest.raises(TrainingDataError, match=r"one\.jsonl and .*copy\.jsonl hold the same text"):
        prepared(
            SourceSettings(raw_data=str(files[0])), SourceSettings(raw_data=str(copy)), cache=tmp_path / "cache"
        )


def test_one_file_may_be_two_sources_by_two_keys(tmp_path: Path) -> None:
    path = tmp_path / "both.jsonl"
    path.write_text('{"title": "abc", "body": "defgh"}\n')
    title, body = (SourceSettings(raw_data=str(path), text_key=key) for key in ("title", "body"))
    both = prepared(title, body, cache=tmp_path / "cache")
    assert [part.documents.tokens for part in both.parts] == [4, 6]
    assert len({*both.names}) == 2
    with pytest.raises(TrainingDataError, match="hold the same text"):
        prepared(title, body, title, cache=tmp_path / "cache")


def test_one_source_or_several_must_be_given_and_not_both(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="found neither"):
        prepared(cache=tmp_path)
    settings = DataSettings(segments_per_row=1, sources=(SourceSettings(raw_data=str(files[0])),))
    with pytest.raises(TrainingDataError, match="found both"):
        prepare_sources(files[0], TOKENIZER, settings, tmp_path)
