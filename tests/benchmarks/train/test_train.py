"""The harness of `make bench-train`: its jobs, its table and its plot. No figure is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.train import child
from benchmarks.train import report as train_report
from benchmarks.train import run as train
from benchmarks.train.report import MARKS, Conditions, Readings

ROOT = Path(__file__).parents[3]
CONDITIONS = Conditions(
    machine={"cpu": "A CPU", "cores": 2, "kernel": "Linux 6", "python": "3.11.7", "commit": "0123456789"},
    ours=["torch 2.13.0", "transformers 5.23.0"],
    peers=["torch 2.13.0", "infini-transformer-pytorch 0.2.1"],
    rounds=3,
    load_before=[0.1, 0.1, 0.1],
    load_after=[1.0, 1.0, 1.0],
)


def made_up(speed_of_ours: float = 2250.0, last_ms_per_token: float = 7.0) -> Readings:
    """Return three rounds of every job; only ours differ, and the second round of all is half as fast."""
    readings: Readings = {}
    for action, variant, lengths in train.jobs():
        for length in lengths:
            speed = speed_of_ours if variant == "ours" else 500.0
            spent = last_ms_per_token if length == train_report.DECODE_LENGTHS[-1] else 7.0
            for slower in (1, 2, 1):
                reading = {"tokens_per_cpu_second": speed / slower, "growth_mib": 260.0, "peak_mib": 700.0}
                if action == "decode":
                    reading = {"ms_per_token": spent * slower, "state_mib": 0.25}
                if action == "multiply":
                    reading = {"gflops": 100 / slower}
                if variant in ("ours", "ours-compiled"):
                    reading["gflops"] = 50 / slower
                readings.setdefault((action, variant, length), []).append(reading)
    return readings


def test_a_ratio_is_taken_within_a_round_and_its_median_judged() -> None:
    goals = train_report.targets(made_up())
    assert [goal.ratios for goal in goals] == [[4.5] * 3, [4.5] * 3, [0.5] * 3, [0.5] * 3, [1.0] * 3, [1.0] * 3]
    assert [goal.reached for goal in goals] == [True, True, False, False, True, True]


def test_a_missed_target_is_said_to_be_missed() -> None:
    text = train_report.section(made_up(speed_of_ours=2240, last_ms_per_token=8.0), CONDITIONS)
    assert "ours over Llama | ≥ 4.5 | 4.48 × [4.48–4.48] | **not reached** |" in text
    assert "ours over infini-transformer-pytorch | ≥ 1.5 | 4.48 × [4.48–4.48] | reached |" in text
    assert "ours over a product of matrices | ≥ 0.6 | 0.50 × [0.50–0.50] | **not reached** |" in text
    assert "after 131,072 tokens over after 2,048 | ≤ 1.1 | 1.14 × [1.14–1.14] | **not reached** |" in text


def test_tables_show_medians_and_a_dash_for_what_was_not_run() -> None:
    text = train_report.section(made_up(), CONDITIONS)
    assert "| 4,096 | – | – | 2,250, 260 MiB | – |" in text
    assert "| 16,384 | 500, 260 MiB | 500, 260 MiB | 2,250, 260 MiB | 500, 260 MiB |" in text
    assert "| 131,072 | – | 7.0, 0.25 MiB |" in text
    assert "makes 100 GFLOP per CPU second. Compiled, ours trains 500 tokens of 16,384 per CPU second." in text
    assert "busy" not in text


def test_the_decision_says_what_the_cut_saves() -> None:
    lines = train_report.decision(made_up()).splitlines()
    assert "| 4,096 | 260 | – |" in lines
    assert "| 16,384 | 260 | 260 |" in lines
    assert lines[-1].endswith("trains 2,250 tokens per CPU second, where the whole row trains 500.")


def test_the_benchmarks_page_has_the_marks() -> None:
    assert MARKS.stand_in(ROOT / "benchmarks/README.md")


def test_the_plot_has_a_line_and_a_label_for_every_variant() -> None:
    root = ElementTree.fromstring(train_report.plot(made_up()))
    names = [element.tag.rpartition("}")[2] for element in root]
    labels = [element.text for element in root.iter() if element.text and ": " in element.text]
    assert names.count("polyline") == len(train_report.NAMES)
    assert sorted(labels[1:]) == sorted(
        f"{n}: {'2,250' if n == 'ours' else '500'}" for n in train_report.NAMES.values()
    )


@pytest.mark.parametrize("variant", ["llama", "ours", "ours-whole-row"])
def test_a_training_job_takes_one_step_after_another(variant: str) -> None:
    (reading,) = child.train(variant, 600)
    assert reading["tokens_per_cpu_second"] > 0
    assert 0 <= reading["growth_mib"] < reading["peak_mib"]


def test_a_product_of_matrices_is_timed() -> None:
    (reading,) = child.multiply("matrices", 8)
    assert reading["gflops"] > 0


def test_the_state_of_ours_does_not_grow_with_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "DECODED", {"ours": 2, "llama": 2})
    llama, ours = child.decode("llama", 16, 512), child.decode("ours", 512, 1024)
    assert llama[0]["state_mib"] < llama[1]["state_mib"]
    assert ours[0]["state_mib"] == ours[1]["state_mib"]


@pytest.mark.benchmarks
def test_a_job_is_a_process_that_prints_a_reading_for_each_length() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "benchmarks/train/child.py"), "train", "ours", "64"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert [sorted(reading) for reading in json.loads(done.stdout)] == [
        ["gflops", "growth_mib", "peak_mib", "tokens_per_cpu_second"]
    ]
