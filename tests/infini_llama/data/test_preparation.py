"""Raw data to tokens, and the cache of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers.normalizers import Lowercase
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from bundler.errors import AccessError, NotInstalledError
from bundler.home.installed import InstalledBundle
from infini_llama.data import Prepared, prepare_documents, records, tokenizing
from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.errors import TrainingDataError
from infini_llama.settings.sections import DataSettings

TOKENIZER = byte_tokenizer()
SMALL = 2000


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut texts into pieces of a few lines, and have each tokenized on its own."""
    monkeypatch.setattr(records, "PIECE", SMALL)
    monkeypatch.setattr(tokenizing, "_BLOCK", SMALL)


def prepared(raw_data: Path, cache: Path, tokenizer: PreTrainedTokenizerBase = TOKENIZER, **keys: Any) -> Prepared:
    """Prepare documents of bytes, closed by token 256."""
    return prepare_documents(raw_data, tokenizer, DataSettings(segments_per_row=1, **keys), cache)


def texts(data: Prepared) -> list[str]:
    return [TOKENIZER.decode(tokens) for tokens in data.documents]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Return a file of JSON lines, of which the second and the fourth are bad."""
    path = tmp_path / "lines.jsonl"
    path.write_text('{"text": "one"}\n{"text": ""}\n{"text": "two"}\n{"txt": "x"}\n{"text": "three"}\n')
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_each_record_becomes_a_document_closed_by_the_end_of_text(raw_data: Path, cache: Path) -> None:
    (raw_data / "c.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    data = prepared(raw_data, cache)
    end = TOKENIZER.eos_token
    assert texts(data) == [
        *((raw_data / name).read_text() + end for name in ("a.txt", "b.txt")),
        f"one{end}",
        f"two{end}",
    ]
    assert data.documents.tokens == sum(len(text) for text in texts(data)) - 4 * (len(end) - 1)
    assert texts(prepared(raw_data, cache, end_of_document=False))[2:] == ["one", "two"]


def test_a_tokenizer_without_an_end_of_text_token_is_refused_where_one_is_wanted(
    raw_data: Path, cache: Path
) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(TrainingDataError, match="no end-of-text token"):
        prepared(raw_data, cache, tokenizer)


def test_bad_records_end_it_and_are_named_and_counted(lines: Path, cache: Path) -> None:
    with pytest.raises(TrainingDataError) as caught:
        prepared(lines, cache)
    assert caught.value.message == (
        f"{lines}: 2 of 5 records cannot be used\n"
        f"  {lines}:2: only white space\n"
        f"  {lines}:4: expected the key 'text', found txt"
    )
    assert caught.value.hint == "correct them, or leave them out: data.on_bad_record: skip"
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


def test_of_many_bad_records_the_first_ten_are_named(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n' + "{\n" * 12)
    with pytest.raises(TrainingDataError, match=r"12 of 13 records") as caught:
        prepared(path, cache)
    named = caught.value.message.splitlines()[1:]
    assert [line.split(":")[1] for line in named[:-1]] == [str(number) for number in range(2, 12)]
    assert named[-1] == "  and 2 more"


def test_bad_records_are_skipped_on_request_and_still_named_and_counted(
    lines: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepared(lines, cache, on_bad_record="skip", end_of_document=False)
    assert (texts(data), data.bad_records) == (["one", "two", "three"], 2)
    assert data.record()["bad_examples"] == [
        f"{lines}:2: only white space",
        f"{lines}:4: expected the key 'text', found txt",
    ]
    assert f"{lines}: 2 bad records are left out\n  {lines}:2: only" in capsys.readouterr().err


def test_what_was_tokenized_without_bad_records_is_no_way_round_the_error(lines: Path, cache: Path) -> None:
    prepared(lines, cache, on_bad_record="skip")
    with pytest.raises(TrainingDataError, match="2 of 5 records cannot be used"):
        prepared(lines, cache)


def test_nothing_but_bad_records_is_an_error_in_any_case(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(TrainingDataError, match="none of 1 record can be used, and nothing is left"):
        prepared(tmp_path / "a.txt", cache, on_bad_record="skip")


@pytest.mark.usefixtures("small_pieces")
def test_a_text_that_turns_out_bad_after_its_first_pieces_leaves_nothing_behind(
    tmp_path: Path, cache: Path
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.txt").write_text("one")
    (raw / "b.txt").write_bytes(b"The cat sat.\n" * SMALL + b"\xe9")
    (raw / "c.txt").write_text("three")
    data = prepared(raw, cache, on_bad_record="skip", end_of_document=False)
    assert (texts(data), data.bad_records) == (["one", "three"], 1)


@pytest.mark.usefixtures("small_pieces")
def test_a_document_of_several_pieces_is_one_again(tmp_path: Path, cache: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    long = "The cat sat on the mat.\n" * SMALL
    (raw / "a.txt").write_text("one")
    (raw / "b.txt").write_text(long)
    (raw / "c.txt").write_text("three")
    assert texts(prepared(raw, cache, end_of_document=False)) == ["one", long, "three"]


@pytest.mark.usefixtures("small_pieces")
def test_a_document_in_pieces_has_the_tokens_that_it_has_as_a_whole(
    tmp_path: Path, cache: Path, gpt2_bundle: InstalledBundle
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gpt2_bundle.snapshot_path("gpt2"))
    text = "".join(f"Line {number}, and then\n\n  some  more\n" for number in range(500))
    (tmp_path / "a.txt").write_text(text)
    data = prepared(tmp_path / "a.txt", cache, tokenizer, end_of_document=False)
    assert data.documents[0].tolist() == tokenizer(text, verbose=False)["input_ids"]


@pytest.mark.usefixtures("small_pieces")
def test_several_processes_give_the_tokens_of_one(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(4):
        (raw / f"{number}.txt").write_text(f"{number} The cat sat.\n" * SMALL)
    one, two = (prepared(raw, tmp_path / str(n), num_proc=n, end_of_document=False) for n in (1, 2))
    assert texts(one) == texts(two)
    assert len(two.documents) == 4


def test_the_same_content_is_tokenized_once(
    raw_data: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = prepared(raw_data, cache)
    moved = raw_data.rename(raw_data.with_name("moved"))
    second = prepared(moved, cache)
    assert (first.from_cache, second.from_cache) == (False, True)
    assert texts(second) == texts(first)
    assert capsys.readouterr().err.count("tokenizes") == 1


def test_another_content_tokenizer_or_setting_is_tokenized_anew(raw_data: Path, cache: Path) -> None:
    prepared(raw_data, cache)
    assert not prepared(raw_data, cache, end_of_document=False).from_cache
    other = byte_tokenizer()
    # The same vocabulary, and other tokens of the same text.
    other.backend_tokenizer.normalizer = Lowercase()
    assert not prepared(raw_data, cache, other).from_cache
    (raw_data / "a.txt").write_text((raw_data / "a.txt").read_text().replace("cat", "cow"))
    assert not prepared(raw_data, cache).from_cache


def test_tokens_that_lost_bytes_are_made_again(raw_data: Path, cache: Path) -> None:
    first = prepared(raw_data, cache)
    expected = texts(first)
    (first.place / "tokens.bin").write_bytes(b"")
    second = prepared(raw_data, cache)
    assert (second.from_cache, texts(second)) == (False, expected)


def test_what_a_killed_run_left_half_made_is_removed(raw_data: Path, cache: Path) -> None:
    (cache / ".incoming-1").mkdir(parents=True)
    data = prepared(raw_data, cache)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [data.place.name]
    assert sorted(path.name for path in data.place.iterdir()) == ["ends.bin", "prepared.json", "tokens.bin"]


def test_a_place_for_tokens_that_cannot_be_written_to_is_named(raw_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AccessError, match="tokens cannot be written here") as caught:
        prepared(raw_data, tmp_path / "file" / "cache")
    assert "data.cache_dir" in str(caught.value.hint)


def test_the_settings_name_the_place_of_the_tokens(raw_data: Path, cache: Path, tmp_path: Path) -> None:
    data = prepared(raw_data, cache, cache_dir=str(tmp_path / "other"))
    assert data.place.parent == tmp_path / "other"
    assert not cache.exists()


def test_tokens_stay_on_disk(raw_data: Path, cache: Path) -> None:
    assert type(prepared(raw_data, cache).documents._tokens).__name__ == "memmap"


def test_files_whose_names_say_nothing_are_named_and_counted(
    raw_data: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw_data / "readme.md").write_text("x")
    data = prepared(raw_data, cache)
    assert data.record()["files_left_out"] == [str(raw_data / "readme.md")]
    assert f"not read: 1 file whose suffix is not known\n  {raw_data}/readme.md" in (capsys.readouterr().err)


def test_a_dataset_that_the_cache_does_not_hold_is_named_with_the_remedy(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(
        NotInstalledError, match="dataset:org/none::train: the datasets library finds no such"
    ) as e:
        prepare_documents("dataset:org/none", TOKENIZER, DataSettings(segments_per_row=1), cache)
    assert "`datasets:` in the bundle's manifest" in str(e.value.hint)


# One process that waits until both are there, and then prepares.
_ONE_OF_TWO = """
import json, sys, time
from pathlib import Path
from infini_llama.data import prepare_documents
from infini_llama.settings.sections import DataSettings
from infini_llama.data.tokenizers import byte_tokenizer
raw, cache, me, other = map(Path, sys.argv[1:])
me.touch()
while not other.exists():
    time.sleep(0.01)
data = prepare_documents(raw, byte_tokenizer(), DataSettings(segments_per_row=1), cache)
print(json.dumps([data.from_cache, data.documents.tokens]))
"""


def test_of_two_processes_one_tokenizes_and_both_have_the_tokens(
    raw_data: Path, cache: Path, tmp_path: Path
) -> None:
    flags = [tmp_path / "0", tmp_path / "1"]
    # HF_HOME cannot be written to, whoever runs this.
    environment = {**os.environ, "HF_HOME": "/dev/null/none", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _ONE_OF_TWO, raw_data, cache, *order],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for order in (flags, flags[::-1])
    ]
    outcomes = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    found = sorted(json.loads(out) for out, _ in outcomes)
    assert [from_cache for from_cache, _ in found] == [False, True]
    assert found[0][1] == found[1][1]
