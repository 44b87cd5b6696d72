"""`make gpu-check` without a card: every part in tiny sizes on the CPU, and what becomes of parts that end badly."""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import check, report
from benchmarks.gpu.boxed import Row, run_boxed
from benchmarks.gpu.sizes import TINY

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Return what all parts say, each run in this process: forks would import the compiler again."""
    found = {name: list(part()) for name, part in check.parts(CPU, TINY)}
    about = {"date": "2026-11-29", "device": "a CPU", "tiny": True, "seconds": 1.0}
    return {"about": {**about, "torch": "2", "transformers": "5", "python": "3"}, "parts": found}


def test_all_parts_run_and_all_equalities_hold(results: dict[str, Any]) -> None:
    assert check.failures(results) == []
    judged = [row for row in results["parts"]["equality"] if "holds" in row]
    # Two rules, three comparisons each, and one segment beside a Llama; two types, two attentions.
    assert len(judged) == (2 * 3 + 1) * 2 * 2
    for variant in ("linear", "llama", "delta"):
        assert [row["tokens"] for row in results["parts"][f"training, {variant}, sdpa"]] == list(TINY.trained)
    # Flash attention needs a card.
    assert results["parts"]["training, linear, flash"] == []
    (compiled,) = results["parts"]["compile"]
    assert compiled["loss_difference"] < 1e-3


def test_the_state_of_ours_stays_and_that_of_a_llama_grows(results: dict[str, Any]) -> None:
    ours, llama = (
        [row["state_mib"] for row in results["parts"][f"decoding, {name}"]] for name in ("linear", "llama")
    )
    assert ours[0] == ours[1]
    assert llama[0] < llama[1]


def test_the_section_has_a_line_for_each_length_and_says_what_was_not_tried(results: dict[str, Any]) -> None:
    text = report.section(results)
    assert "which try the script; no figure means anything" in text
    assert text.count("| 128 | ours, linear, sdpa |") == 1
    assert text.count("| 64 | Llama |") == 1
    assert "**" not in text.partition("### Equalities")[2]
    nothing = report.section({**results, "parts": {"device": [{"failed": "no card"}], "equality": []}})
    assert "- **device**: no card" in nothing
    assert nothing.count("Not done.") == 4


def test_a_difference_that_is_too_large_or_no_number_is_said_and_is_a_failure() -> None:
    row = {"what": "linear: logits", "dtype": "float32", "attention": "sdpa", "difference": float("nan")}
    parts = {"equality": [{**row, "allowed": 1e-4, "holds": False}]}
    assert check.failures({"parts": parts}) == ["equality: linear: logits"]
    assert "| linear: logits | nan, **1.0e-04 allowed, by sdpa** | – |" in report._equalities(parts["equality"])


def _says_one_thing(then: Any = None) -> Iterator[Row]:
    yield {"tokens": 1}
    if then is not None:
        then()


def _raise() -> None:
    raise RuntimeError("no kernel\nfor this card")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("then", "reason"),
    [(_raise, "RuntimeError: no kernel for this card"), (_die, "ended with exit code -9")],
)
def test_a_part_that_ends_badly_keeps_what_it_has_said_and_its_reason(then: Any, reason: str) -> None:
    rows = list(run_boxed(lambda: _says_one_thing(then), 600))
    assert rows == [{"tokens": 1}, {"failed": reason}]
    assert list(run_boxed(_says_one_thing, 600)) == [{"tokens": 1}]


def test_a_part_that_hangs_is_ended() -> None:
    *said, last = run_boxed(lambda: _says_one_thing(signal.pause), 0.6)
    # How much it says in that time depends on the machine.
    assert said in ([], [{"tokens": 1}])
    assert last == {"failed": "not done after 1 s"}


def test_a_check_without_time_left_says_so_of_every_part(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    check.run(CPU, TINY, output, seconds=0)
    parts = json.loads(output.read_text())["parts"]
    assert list(parts) == [name for name, _ in check.parts(CPU, TINY)]
    assert list(parts.values()) == [[{"failed": "no time was left"}]] * len(parts)


def test_the_limits_of_all_parts_fit_into_eight_minutes() -> None:
    limits = [check._LIMITS[name.partition(",")[0]] for name, _ in check.parts(CPU, TINY) if "flash" not in name]
    assert sum(limits) <= 8 * 60


def test_the_script_imports_nothing_but_torch_and_transformers_and_what_they_bring() -> None:
    # `infini_llama` names the model and loads it when it is used.
    todo = ["benchmarks.gpu.check", "infini_llama.model.modeling"]
    seen, foreign = set[str](), set[str]()
    while todo:
        name = todo.pop()
        path = ROOT / name.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not path.exists():
            continue
        seen.add(name)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            foreign |= {name.partition(".")[0] for name in names}
            # A module's packages are imported before it.
            todo += [
                ".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2)
            ]
    ours = {"benchmarks", "infini_llama", "bundler", "tests"}
    assert {"infini_llama.model.memory", "infini_llama.train.truncation"} < seen
    # huggingface_hub comes with transformers.
    assert foreign - ours - set(sys.stdlib_module_names) <= {"torch", "transformers", "huggingface_hub"}


def test_the_benchmarks_page_has_the_marks() -> None:
    assert report.MARKS.stand_in(ROOT / "benchmarks/README.md")
