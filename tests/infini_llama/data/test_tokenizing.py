"""Texts to tokens: what is written, by which processes, and that the tokens are those of the tokenizer."""

from __future__ import annotations

import errno
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase

from bundler.home.installed import InstalledBundle
from infini_llama.data import tokenizing
from infini_llama.data.encoding import Encoder, Encoding
from infini_llama.data.records import BadRecord, Piece
from infini_llama.data.tokenizers import byte_tokenizer
from infini_llama.data.tokenizing import Tokenized, tokenize
from infini_llama.errors import TrainingDataError

TEXTS = ["The cat sat.", "", "<|endoftext|> is no end</s>", "Grüße, 世界 \n\n  and  more", "x" * 5000]


@pytest.fixture
def tokenizers(gpt2_bundle: InstalledBundle) -> list[PreTrainedTokenizerBase]:
    """Return one with the spelling of special tokens in the text, one without, and one that is written in Python."""
    gpt2 = AutoTokenizer.from_pretrained(gpt2_bundle.snapshot_path("gpt2"))
    return [gpt2, byte_tokenizer(), ByT5Tokenizer()]


def test_tokens_are_those_of_the_tokenizer(tokenizers: list[PreTrainedTokenizerBase]) -> None:
    for tokenizer in tokenizers:
        tokens, lengths = Encoder(Encoding.of(tokenizer, ending=7)).encode(TEXTS, [True, False, True, False, True])
        expected = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in TEXTS]
        for ids in expected[::2]:
            ids.append(7)
        assert lengths.tolist() == [len(ids) for ids in expected]
        assert tokens.tolist() == [token for ids in expected for token in ids]


def written(folder: Path) -> tuple[list[int], list[int]]:
    tokens = np.fromfile(folder / "tokens.bin", np.uint16).tolist()
    return tokens, np.fromfile(folder / "ends.bin", "<i8").tolist()


def tokenized(records: Iterator[Piece | BadRecord], folder: Path, *, processes: int = 1) -> Tokenized:
    return tokenize(records, byte_tokenizer(), end_of_document=False, processes=processes, folder=folder)


def test_no_text_is_written_and_each_token_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizing, "_BLOCK", 10)
    seen: set[str] = set()
    ids = []

    def records() -> Iterator[Piece]:
        for number in range(50):
            seen.update(path.name for path in tmp_path.rglob("*"))
            ids.extend(byte_tokenizer()(f"{number:06d}")["input_ids"])
            yield Piece(f"{number:06d}")

    done = tokenized(records(), tmp_path)
    assert seen == {"tokens.bin", "ends.bin"}
    assert written(tmp_path) == (ids, list(range(6, 306, 6)))
    assert (done.good, done.tokens) == (50, 300)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_was_written_of_a_document_that_turns_out_bad_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(tokenizing, "_BLOCK", size)
    bad = BadRecord("a", "bad")
    stream = [Piece("aa"), Piece("bb", closes=False), Piece("b", closes=False), bad, bad, Piece("c", closes=False)]
    done = tokenized(iter([*stream, Piece("c"), Piece("dd", closes=False), bad]), tmp_path)
    expected = byte_tokenizer()("aacc")["input_ids"]
    assert written(tmp_path) == (expected, [2, 4])
    assert (done.good, done.bad.count, done.tokens) == (2, 3, 4)


def test_a_process_that_is_killed_ends_it_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizing, "_BLOCK", 1)

    def records() -> Iterator[Piece]:
        for number in range(1000):
            for worker in multiprocessing.active_children()[:1]:
                worker.kill()
            yield Piece(f"text {number}")

    with pytest.raises(TrainingDataError, match="a process that tokenizes died") as caught:
        tokenized(records(), tmp_path, processes=2)
    assert "data.num_proc" in str(caught.value.hint)


def test_a_process_that_cannot_be_started_ends_it_with_the_same_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(tokenizing, "_BLOCK", 1)
    monkeypatch.setattr(tokenizing.ProcessPoolExecutor, "submit", submit)
    with pytest.raises(TrainingDataError, match=r"it could not be started: .*Resource temporarily unavailable"):
        tokenized((Piece(f"text {number}") for number in range(1000)), tmp_path, processes=2)


def test_all_processes_are_started_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that starts one because a block comes, while another is found dead, hangs or raises what it likes."""
    monkeypatch.setattr(tokenizing, "_BLOCK", 1)
    submit = tokenizing.ProcessPoolExecutor.submit
    seen = []

    def submit_slowly(pool: ProcessPoolExecutor, *task: Any) -> Future[Any]:
        # A process that is idle before the next is asked for would take its place.
        future = submit(pool, *task)
        if len(multiprocessing.active_children()) == 1:
            wait([future], timeout=3)
        return future

    def records() -> Iterator[Piece]:
        for number in range(1000):
            seen.append(len(multiprocessing.active_children()))
            yield Piece(f"text {number}")

    monkeypatch.setattr(tokenizing.ProcessPoolExecutor, "submit", submit_slowly)
    tokenized(records(), tmp_path, processes=3)
    assert {*seen} == {0, 3}


def test_processes_end_with_one_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import multiprocessing, os, pathlib, signal
from infini_llama.data import tokenizing
from infini_llama.data.records import Piece
from infini_llama.data.tokenizers import byte_tokenizer

def records():
    for number in range(1000):
        if number == 500:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        yield Piece("text")

if __name__ == "__main__":
    tokenizing._BLOCK = 1
    folder = pathlib.Path({str(tmp_path)!r})
    tokenizing.tokenize(records(), byte_tokenizer(), end_of_document=False, processes=2, folder=folder)
"""
    (tmp_path / "killed.py").write_text(script)
    # Not a pipe: processes that are left would hold it open.
    with (tmp_path / "left").open("w") as output:
        ended = subprocess.run([sys.executable, tmp_path / "killed.py"], stdout=output)
    assert ended.returncode == -signal.SIGKILL
    left = [int(number) for number in (tmp_path / "left").read_text().split()]
    assert len(left) == 2
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(number) for number in left):
        assert time.monotonic() < deadline
        time.sleep(0.1)
