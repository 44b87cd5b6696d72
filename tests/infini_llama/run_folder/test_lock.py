"""One run at a time in an output folder, by locks of real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.errors import UsageError
from infini_llama.run_folder.lock import run_lock
from tests.support.process import Child

HOLD = """
import os, sys, time
from pathlib import Path
from infini_llama.run_folder.lock import run_lock
with run_lock(Path(sys.argv[1])):
    if os.fork() == 0:
        print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_while_the_first_is_there_and_not_afterwards(tmp_path: Path) -> None:
    with (
        run_lock(tmp_path / "run"),
        pytest.raises(UsageError, match="another run trains in it"),
        run_lock(tmp_path / "run"),
    ):
        pass
    with run_lock(tmp_path / "run"):
        pass


def test_a_run_that_was_killed_holds_nothing_though_a_worker_of_it_lives(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLD, str(tmp_path)]
    with Child(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError), run_lock(tmp_path):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(60)
        with run_lock(tmp_path):
            pass
        os.killpg(holder.pid, signal.SIGKILL)
