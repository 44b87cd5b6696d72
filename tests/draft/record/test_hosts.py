"""Other hosts that a program asks: by Python with the line of code, by compiled programs with their command line."""

from __future__ import annotations

from pathlib import Path

from tests.draft.record.conftest import Record, program
from tests.offline.conftest import OUTSIDE, needs_seccomp
from tests.support.process import script

PYTHON = script("python")


def test_pythons_connections_are_told_with_their_line(record: Record, tmp_path: Path) -> None:
    code = f"""
import contextlib, socket
with contextlib.suppress(OSError):
    socket.create_connection(("{OUTSIDE}", 4443), timeout=0.2)
with contextlib.suppress(OSError):
    socket.create_connection(("tracker.invalid", 443), timeout=0.2)
with contextlib.suppress(OSError):
    socket.create_connection(("localhost", 9), timeout=0.2)
"""
    path = program(tmp_path, code)
    found = record(PYTHON, path)
    hosts = [(use["host"], use["port"], use["where"]) for use in found.report["hosts"]]
    assert hosts == [(OUTSIDE, 4443, f"{path}:4"), ("tracker.invalid", 443, f"{path}:6")]


@needs_seccomp
def test_connections_of_compiled_programs_are_told_with_their_command(record: Record) -> None:
    words = ["curl", "--silent", "--max-time", "0.2", f"http://{OUTSIDE}:4443/"]
    found = record(*words, check=False)
    assert [(use["host"], use["port"], use["where"]) for use in found.report["hosts"]] == [
        (OUTSIDE, 4443, " ".join(words))
    ]
    assert found.report["unseen"] == []


@needs_seccomp
def test_nothing_is_refused(record: Record, tmp_path: Path) -> None:
    # A guard or a launch within must not take the one who looks for one who holds.
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
with socket.create_connection(server.getsockname()[:2]) as sock:
    sock.sendall(b"x")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"x", ("127.0.0.1", 9))
from bundler.offline.kernel.supervisor import supervised_kind
assert supervised_kind() is None
"""
    assert record(PYTHON, program(tmp_path, code)).done.returncode == 0
