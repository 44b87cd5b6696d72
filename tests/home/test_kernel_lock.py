"""bundler.home.kernel_lock: one holds it, others wait as long as they want to."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.home.kernel_lock import wait_for_lock


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    found = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield found
    os.close(found)


def test_a_free_one_is_taken_without_a_word(descriptor: int, tmp_path: Path) -> None:
    said: list[str] = []
    assert wait_for_lock(descriptor, on_wait=lambda: said.append("waits"))
    assert said == []
    with (tmp_path / "lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_one_that_is_held_is_waited_for_until_its_holder_ends(
    descriptor: int, tmp_path: Path, seconds: float | None
) -> None:
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    argv = [sys.executable, "-c", code, str(tmp_path / "lock")]
    waits = threading.Event()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"

        def end() -> None:
            waits.wait()
            holder.kill()

        ending = threading.Thread(target=end)
        ending.start()
        assert wait_for_lock(descriptor, on_wait=waits.set, seconds=seconds)
        ending.join()


def test_when_the_time_is_up_it_is_not_held(descriptor: int, tmp_path: Path) -> None:
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not wait_for_lock(descriptor, on_wait=lambda: None, seconds=0.01)
