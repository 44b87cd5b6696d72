"""Signals that ask `bundle` to end: what is open is given back, and the exit code is a shell's for the signal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from bundler.cli import BundleGroup, main


@pytest.fixture
def held(tmp_path: Path) -> Path:
    return tmp_path / "held"


@pytest.fixture(autouse=True)
def default_signals() -> Iterator[None]:
    """What a new process has: libraries that other tests load take signals for themselves."""
    previous = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in previous.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def run_and_send(monkeypatch: pytest.MonkeyPatch, held: Path, *numbers: signal.Signals) -> Result:
    """Run a command of `bundle` that is sent signals while it holds a file, and while it gives it back."""

    @click.command()
    def holds() -> None:
        held.touch()
        try:
            os.kill(os.getpid(), numbers[0])
        finally:
            for number in numbers[1:]:
                os.kill(os.getpid(), number)
            held.unlink()

    monkeypatch.setattr(BundleGroup, "get_command", lambda *_: holds)
    return CliRunner().invoke(main, ["holds"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_and_gives_back_what_it_has(
    monkeypatch: pytest.MonkeyPatch, held: Path, number: signal.Signals
) -> None:
    done = run_and_send(monkeypatch, held, number)
    said = f"ended by {number.name}; finished work is kept: run the same command again to continue\n"
    assert (done.exit_code, done.stderr, held.exists()) == (128 + number, said, False)
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_second_signal_changes_nothing(monkeypatch: pytest.MonkeyPatch, held: Path) -> None:
    done = run_and_send(monkeypatch, held, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)
    assert (done.exit_code, held.exists()) == (129, False)


def test_what_nohup_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch, held: Path) -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = run_and_send(monkeypatch, held, signal.SIGHUP)
        assert (done.exit_code, signal.getsignal(signal.SIGHUP)) == (0, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGHUP, previous)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_one_that_comes_where_python_goes_on_after_errors_ends_it_all_the_same(
    monkeypatch: pytest.MonkeyPatch, held: Path, number: signal.Signals
) -> None:
    class Freed:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    @click.command()
    def holds() -> None:
        held.touch()
        try:
            freed = Freed()
            del freed
            time.sleep(30)
            click.echo("was not noticed")
        finally:
            held.unlink()

    monkeypatch.setattr(BundleGroup, "get_command", lambda *_: holds)
    done = CliRunner().invoke(main, ["holds"])
    assert (done.exit_code, done.stdout, held.exists()) == (128 + number, "", False)
    assert "Traceback" not in done.stderr
