"""A server beside a command goes with it, and says why it could not come."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bundler.errors import BundleError
from bundler.serve.aside import open_aside
from tests.support.process import TIMEOUT_SECONDS

DIES = """
import os, signal, sys
from bundler.serve.aside import open_aside

with open_aside("bundler.draft.record.front.process", "http://127.0.0.1:9", sys.argv[1], what="it") as address:
    print(address, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", DIES, tmp_path / "notes"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while _answers(done.stdout.strip()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_that_does_not_start_is_an_error_with_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("version: 9")
    argv = ("bundler.make.cache.process", str(tmp_path))
    opened = open_aside(*argv, what="no Hub")
    with pytest.raises(BundleError, match=r"no Hub: the process for it ended with 1: .*hub\.yaml"):
        opened.__enter__()


def _answers(address: str) -> bool:
    place = urlsplit(address)
    try:
        socket.create_connection((place.hostname, place.port or 0), TIMEOUT_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True
