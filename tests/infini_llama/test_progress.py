"""A bar on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pytest

from infini_llama.progress import format_seconds
from tests.support.process import Child

PROGRAM = """
from infini_llama.progress import ProgressBar, say
bar = ProgressBar(total=8, done=2)
bar.advance(4)
bar.show("loss 2.5000, 1,234 tokens/s, 1.50 GiB")
say("a line")
bar.close()
"""


def test_on_a_terminal_a_bar_shows_loss_speed_and_memory() -> None:
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    with Child([sys.executable, "-c", PROGRAM], stderr=terminal):
        os.close(terminal)
        shown = b""
        try:
            while block := os.read(controller, 1 << 16):
                shown += block
        except OSError:
            # What a terminal reads like when its last program has ended.
            pass
    os.close(controller)
    text = shown.decode()
    assert "4/8" in text
    assert "loss 2.5000, 1,234 tokens/s, 1.50 GiB" in text
    assert "a line\r\n" in text


def test_elsewhere_there_are_only_lines() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "a line\n")


def test_other_ranks_say_nothing() -> None:
    environment = {**os.environ, "RANK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (7500, "2 h 05 min"),
        (97200, "1 d 03 h"),
    ],
)
def test_a_duration_has_two_units(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
