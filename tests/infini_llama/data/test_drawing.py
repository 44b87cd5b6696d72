"""The order of rows through kills and changes; the program `drawn_runs` has trained them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infini_llama.data.drawing import choose_drawing
from infini_llama.data.order import Source
from infini_llama.errors import ConfigError
from tests.infini_llama.conftest import run_program
from tests.infini_llama.train.test_run import configured

SOURCES = [Source(name="a", rows=10), Source(name="b", rows=10)]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_program("tests.infini_llama.data.drawn_runs", tmp_path_factory.mktemp("runs"))


def test_a_run_that_was_killed_goes_on_with_the_rows_of_a_straight_one(shown: dict[str, Any]) -> None:
    assert (shown["signal"], shown["found"]) == (9, "checkpoint-2")
    assert list(shown["drawn"]["straight"]) == ["1", "2", "3", "4", "5", "6"]
    assert shown["drawn"]["killed"] == shown["drawn"]["straight"]
    assert shown["same weights"]


def test_it_goes_on_with_them_on_another_number_of_ranks(shown: dict[str, Any]) -> None:
    assert shown["drawn"]["ranks"] == shown["drawn"]["straight"]


def test_with_larger_batches_it_goes_on_with_the_next_row(shown: dict[str, Any]) -> None:
    straight, larger = shown["drawn"]["straight"], shown["drawn"]["larger"]
    assert (larger["1"], larger["2"]) == (straight["1"], straight["2"])
    assert larger["3"] == sorted([*straight["3"], *straight["4"]])
    assert larger["4"] == sorted([*straight["5"], *straight["6"]])


def test_each_source_is_drawn_by_its_weight_and_counted(shown: dict[str, Any]) -> None:
    assert [source["weight"] for source in shown["sources"]] == [0.7, 0.3]
    names = [source["sha256"] for source in shown["sources"]]
    order = shown["order"]
    assert (order["version"], order["drawn"], list(order["weights"])) == (2, 24, names)
    assert sum(order["taken"].values()) == 24
    # The rows that they drew are told apart by their text; fourteen to twenty of 24 are of the larger source.
    assert order["taken"][names[0]] > order["taken"][names[1]] > 0


def of_run(folder: Path, order: dict[str, Any]) -> Path:
    """Return a checkpoint, as far as it is about order."""
    (folder / "provenance.json").write_text(json.dumps({"step": 5, "order": order}))
    return folder


def test_a_run_from_before_there_was_an_order_goes_on_in_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert choose_drawing(SOURCES[:1], configured(), of_run(tmp_path, {}), 1) is None
    assert "drawn in the order of version 0.1.0, in which the run began" in capsys.readouterr().err


def test_it_cannot_go_on_with_a_mixture(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no mixtures"):
        choose_drawing(SOURCES, configured(), of_run(tmp_path, {}), 1)


def test_an_order_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected rows in the order of version 2, found 3"):
        choose_drawing(SOURCES, configured(), of_run(tmp_path, {"version": 3, "more": 1}), 1)


def test_other_weights_begin_a_new_mixture_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = choose_drawing(SOURCES, configured(), None, 1)
    assert first is not None
    checkpoint = of_run(tmp_path, first.record(5))
    heavier = [SOURCES[0], Source(name="b", rows=10, weight=3)]
    second = choose_drawing(heavier, configured(), checkpoint, 1)
    assert second is not None
    assert "a new mixture begins" in capsys.readouterr().err
    assert second.record(5)["taken"] == first.record(5)["taken"]
