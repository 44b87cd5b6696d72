"""The harness of `make bench-converted`: a Llama trained, converted, trained on and asked. No figure is judged here."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from benchmarks.train.passkey import converted
from benchmarks.train.passkey.converted import MARKS, markdown, perplexity
from benchmarks.train.passkey.plans import PLANS, Plan
from benchmarks.train.passkey.records import Record, read_records
from benchmarks.train.passkey.run import README
from benchmarks.train.passkey.training import Stage, draw_prose

TINY = Plan(
    shape=(
        ("hidden_size", 16),
        ("intermediate_size", 16),
        ("num_hidden_layers", 2),
        ("num_attention_heads", 2),
    ),
    window=64,
    steps=2,
    rows=2,
    gate_init=-4.0,
    spread=2.0,
    rate=1e-3,
    gate_rate=1e-2,
    stages=(Stage(length=256, rows=2, steps=2, introduced=False, prose_rows=1),),
    lengths=(640,),
    depths=(0.0, 1.0),
    keys=2,
)


@pytest.fixture
def short_prose(monkeypatch: pytest.MonkeyPatch) -> None:
    prose, held_out = converted.read_prose()
    monkeypatch.setattr(converted, "read_prose", lambda: (prose[:2000], held_out[:600]))


def test_the_last_tenth_of_the_prose_is_held_out() -> None:
    prose, held_out = converted.read_prose()
    assert len(held_out) == round((len(prose) + len(held_out)) / 10)


def test_pieces_of_prose_are_from_anywhere_in_it() -> None:
    rows = draw_prose(torch.arange(100), 500, 10, torch.Generator().manual_seed(0))
    assert rows.shape == (500, 10)
    assert (rows.diff(dim=1) == 1).all()
    assert (int(rows.min()), int(rows.max())) == (0, 99)


def test_each_window_is_read_by_itself() -> None:
    """A model that adds up what it has read gives each window the same loss, wherever it is."""

    class Sums(nn.Module):
        def forward(self, tokens: torch.Tensor, use_cache: bool) -> object:
            self.logits = nn.functional.one_hot(tokens.cumsum(1) % 7, 7).float()
            return self

    window = torch.tensor([1, 2, 3, 4])
    once = perplexity(Sums(), torch.cat((window, window[:1])), 4)
    assert perplexity(Sums(), torch.cat((window.repeat(50), window[:1])), 4) == pytest.approx(once)
    expected = nn.functional.cross_entropy(
        nn.functional.one_hot(torch.tensor([1, 3, 6, 3]), 7).float(), torch.tensor([2, 3, 4, 1])
    )
    assert once == pytest.approx(math.exp(expected))


@pytest.mark.benchmarks
@pytest.mark.usefixtures("short_prose")
def test_a_llama_is_trained_converted_trained_on_and_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "converted.jsonl"

    def measure() -> list[Record]:
        converted.measure(TINY, tmp_path, results)
        return read_records(results)

    records = measure()
    llama, before, after = (each for each in records if each["kind"] == "perplexity")
    assert before["shut"] == pytest.approx(llama["windows"], rel=1e-5)
    assert before["windows"] == pytest.approx(llama["windows"], rel=1e-5)
    assert before["most_gate"] == pytest.approx(1 / (1 + math.exp(4)))
    assert after["windows"] != before["windows"]
    asked = [(each["model"], each["length"], each["depth"]) for each in records if each["kind"] == "asking"]
    assert asked == [(name, 640, depth) for name in ("before", "after") for depth in (0.0, 1.0)]
    for step in ("train_llama", "convert", "_train_on", "ask_apart"):
        monkeypatch.setattr(converted, step, None)
    assert measure() == records


def test_the_table_has_a_line_for_each_model_that_was_measured() -> None:
    gates, plans = {"least_gate": 0.018, "most_gate": 0.5}, (TINY, dataclasses.replace(TINY, gate_init=0.0))
    records: list[Record] = [
        {"kind": "perplexity", "model": "llama", "windows": 5.25},
        {"kind": "perplexity", "model": "after", "windows": 5.5, "shut": 5.5, "rows": 5.125, **gates},
        *(
            {"kind": "asking", "model": "after", "length": 640, "depth": depth, "asked": 2, "keys": depth}
            for depth in (0.0, 1.0)
        ),
    ]
    lines = markdown([{**each, "recipe": TINY.digest} for each in records], plans).splitlines()
    assert "| Llama | 5.250 |  |  |  |  |" in lines
    assert "| gates at 0.018, trained on | 5.500 | 5.500 | 5.125 | 0.018–0.500 | 0 %, 100 % |" in lines
    assert not any(line.startswith("| converted") for line in lines)
    assert lines[-1] == "Not run to the end: gates that begin at 0.5."


def test_a_report_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "measure", None)
    done = CliRunner().invoke(converted.main, ["--report-only", "--work", str(tmp_path)])
    assert done.exit_code == 0
    assert f"{PLANS[0].steps:,} steps of the Llama" in done.output
    assert not list(tmp_path.iterdir())


def test_the_document_has_the_place() -> None:
    assert MARKS.stand_in(README)
