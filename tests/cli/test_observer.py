"""What the stages of a fetch show: lines for people, and a bar on a terminal only while something is measured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from bundler.cli import observer as observer_module
from bundler.cli.observer import ConsoleObserver


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[list[object]]:
    """The bars that were drawn, each as its title, its counts, and ``gone`` once it was taken away."""
    drawn: list[list[object]] = []

    @contextlib.contextmanager
    def progress_bar(title: str, total: int) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
        bar: list[object] = [title, total]
        drawn.append(bar)
        yield bar.append, lambda total: None
        bar.append("gone")

    monkeypatch.setattr(observer_module, "progress_bar", progress_bar)
    return drawn


def test_a_stage_takes_the_bar_of_the_one_before_away(
    bars: list[list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    with ConsoleObserver() as observer:
        observer.begin("fetch", "fetching", 10)
        observer.progress(10)
        observer.begin("prove", "proving")
        observer.progress(1)
        observer.begin("pack", "packing", 20)
        observer.progress(20)
    observer.progress(5)
    assert bars == [["fetch", 10, 10, "gone"], ["pack", 20, 20, "gone"]]
    assert capsys.readouterr() == ("", "fetching\nproving\npacking\n")


def test_an_error_takes_the_bar_away(bars: list[list[object]]) -> None:
    with pytest.raises(KeyboardInterrupt), ConsoleObserver() as observer:
        observer.begin("fetch", "fetching", 10)
        raise KeyboardInterrupt
    assert bars == [["fetch", 10, "gone"]]


def test_notes_and_warnings_say_which_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    observer = ConsoleObserver()
    observer.note("a mirror is slow")
    observer.warn("left out model.py")
    assert observer.notes == ["a mirror is slow"]
    assert capsys.readouterr().err == "note: a mirror is slow\nwarning: left out model.py\n"
