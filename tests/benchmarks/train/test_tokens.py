"""The harness of `make bench-tokens`. No figure is judged here."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.train.tokens import MARKS, README, batches, section, write_corpus


def test_the_corpus_is_about_as_large_as_was_asked_for(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "a.jsonl", 200_000)
    written = [json.loads(line)["text"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert written == texts
    assert 200_000 <= sum(map(len, texts)) < 200_000 + max(map(len, texts))


def test_batches_hold_all_texts_in_order() -> None:
    texts = ["x" * 600_000, "y" * 600_000, "z"]
    assert list(batches(texts)) == [texts[:2], texts[2:]]


def test_ratios_are_taken_within_a_round() -> None:
    table = section({"tokenizer alone": [100.0, 200.0, 400.0], "ours": [90.0, 100.0, 400.0]}, 30)
    assert table.splitlines()[-1] == "| ours | 100 | 0.90 [0.50–1.00] |"


def test_the_document_has_the_place() -> None:
    assert MARKS.stand_in(README)
