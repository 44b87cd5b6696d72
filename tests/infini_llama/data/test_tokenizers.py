"""Which tokenizer a run gets: bundle, folder, cache, or bytes when that is asked for; never a stand-in unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from bundler.errors import NotInstalledError
from bundler.home.installed import InstalledBundle
from infini_llama.data.tokenizers import (
    END_OF_TEXT,
    byte_tokenizer,
    check_resumed,
    choose_tokenizer,
    is_folder,
    origin_record,
)
from infini_llama.errors import ConfigError
from infini_llama.run_folder.checkpoints import PROVENANCE

BYTES = byte_tokenizer()


@given(st.text())
def test_bytes_lose_nothing(text: str) -> None:
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(text.encode())
    assert BYTES.decode(ids, clean_up_tokenization_spaces=False) == text


def test_a_text_that_spells_the_end_of_text_is_not_one() -> None:
    ids = BYTES(f"a{END_OF_TEXT}b")["input_ids"]
    assert BYTES.eos_token_id == 256 and 256 not in ids
    assert BYTES.decode(ids) == f"a{END_OF_TEXT}b"


def test_bytes_are_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    BYTES.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = f" Ünïcode\r\n\t🦊 {END_OF_TEXT} .  ,"
    assert loaded(text)["input_ids"] == BYTES(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert loaded.eos_token_id == 256


def test_a_bundle_gives_its_own_and_has_no_fallback(
    gpt2_bundle: InstalledBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = choose_tokenizer("gpt2", bundle=gpt2_bundle, fallback="byte")
    assert (chosen.origin.source, len(chosen.tokenizer)) == ("bundle", 50257)
    assert "tokenizer_fallback: byte is not used" in capsys.readouterr().err
    with pytest.raises(NotInstalledError):
        choose_tokenizer("org/other", bundle=gpt2_bundle, fallback="byte")


def test_a_folder_of_the_project_is_named_like_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BYTES.save_pretrained(tmp_path / "tokenizer")
    monkeypatch.chdir(tmp_path)
    chosen = choose_tokenizer("./tokenizer")
    assert (chosen.origin.source, chosen.origin.place) == ("folder", str(tmp_path / "tokenizer"))
    assert [is_folder(n) for n in ("./a", "../a", "/a", "~/a", "a/b", "a")] == [True] * 4 + [False] * 2
    with pytest.raises(NotInstalledError, match="found nothing"):
        choose_tokenizer("./tokeniser", fallback="byte")


def test_one_that_is_nowhere_stops_with_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotInstalledError) as caught:
        choose_tokenizer("org/nowhere")
    assert "no tokenizer 'org/nowhere' in the local cache" in caught.value.message
    for way in ("--bundle", "tokenizer: ./tokenizer", "--tokenizer-fallback byte"):
        assert way in str(caught.value.hint)


def test_bytes_take_its_place_only_when_asked_and_never_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = choose_tokenizer("org/nowhere", fallback="byte")
    assert (chosen.origin.source, len(chosen.tokenizer)) == ("built-in", 257)
    log = capsys.readouterr().err
    assert "WARNING: no tokenizer 'org/nowhere'" in log
    assert "tokenizer built-in bytes, in place of org/nowhere, 257 tokens" in log


def test_a_run_does_not_go_on_with_another_tokenizer(gpt2_bundle: InstalledBundle, tmp_path: Path) -> None:
    import json

    bytes_of = choose_tokenizer("gpt2-of-nowhere", fallback="byte").origin
    (tmp_path / PROVENANCE).write_text(json.dumps({"tokenizer_origin": origin_record(bytes_of)}))
    check_resumed(tmp_path, bytes_of)
    with pytest.raises(ConfigError, match="was trained with the tokenizer built-in bytes"):
        check_resumed(tmp_path, choose_tokenizer("gpt2", bundle=gpt2_bundle).origin)
