"""`bundle run`: exit codes, signals and terminals are those of the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.offline.conftest import OUTSIDE, PYTHON, BundleRun
from tests.support.process import TIMEOUT_SECONDS, Child, script

CONNECT = f"import socket; socket.socket().connect(('{OUTSIDE}', 80))"


def test_the_exit_code_is_the_commands(bundle_run: BundleRun) -> None:
    assert bundle_run("sh", "-c", "exit 42").code == 42


def test_a_command_killed_by_a_signal_gives_128_and_its_number(bundle_run: BundleRun) -> None:
    assert bundle_run("sh", "-c", "kill -KILL $$").code == 128 + signal.SIGKILL


def test_a_command_that_is_not_there_is_127_and_one_that_cannot_run_126(
    bundle_run: BundleRun, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program\n")
    assert bundle_run("no-such-command").code == 127
    assert bundle_run(plain).code == 126
    plain.chmod(0o755)
    assert bundle_run(plain).code == 126


@contextmanager
def started(home: Path, code: str, **options: object) -> Iterator[Child[str]]:
    """Run Python code through `bundle run` and wait until it has printed ``ready``."""
    process = Child(
        [script("bundle"), "run", "--hf-home", home, "--", sys.executable, "-u", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)


WAIT_FOR = """
import signal, sys, time
got = []
signal.signal({number}, lambda number, frame: got.append(number))
print("ready")
while not got:
    time.sleep(0.02)
print("got", *map(int, got))
sys.exit(7)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_is_passed_on_and_the_commands_answer_counts(home: Path, number: signal.Signals) -> None:
    with started(home, WAIT_FOR.format(number=int(number))) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (out, process.returncode) == (f"got {int(number)}\n", 7)
        assert "offline report" in err


def test_a_command_that_dies_of_the_signal_gives_128_and_its_number(home: Path) -> None:
    with started(home, "import time; print('ready'); time.sleep(1000)") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_SECONDS) == 128 + signal.SIGTERM


def test_a_command_does_not_outlive_a_killed_launcher(home: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    code = f"import time; print('ready'); time.sleep(1000)  # holds descriptor {writer}"
    # What is killed outright leaves its attempts folder.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with started(home, code, pass_fds=[writer], env=environment) as process:
        os.close(writer)
        process.kill()
        process.wait(TIMEOUT_SECONDS)
        # End of file means that the last holder of the other end is gone.
        assert os.read(reader, 1) == b""
    os.close(reader)


def test_ctrl_c_on_a_terminal_reaches_the_command_once(home: Path, tmp_path: Path) -> None:
    counted = tmp_path / "counted"
    code = f"""
import signal, time
got = []
signal.signal(signal.SIGINT, lambda *_: got.append(1))
print("ready", flush=True)
while not got:
    time.sleep(0.05)
time.sleep(0.5)  # a second one, if it was sent twice, arrives meanwhile
open({str(counted)!r}, "w").write(str(len(got)))
"""
    leader, follower = os.openpty()
    words = [script("bundle"), "run", "--hf-home", home, "--", sys.executable, "-c", code]
    # A session of its own, with the pseudo-terminal as its controlling one.
    adopt = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
    process = Child(
        [sys.executable, "-c", adopt, *words],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    _read_until(leader, b"ready")
    os.write(leader, b"\x03")
    assert process.wait(TIMEOUT_SECONDS) == 0
    os.close(leader)
    assert counted.read_text() == "1"


SMALL_SHELL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(job, os.WUNTRACED)
print("shell:", "stopped" if os.WIFSTOPPED(status) else "ended", flush=True)
os.killpg(job, signal.SIGCONT)
_, status = os.waitpid(job, 0)
print("shell:", "ended with", os.waitstatus_to_exitcode(status), flush=True)
"""


def test_ctrl_z_gives_the_shell_its_prompt_back_and_fg_goes_on(home: Path) -> None:
    code = """
import signal, sys, time
went_on = []
signal.signal(signal.SIGCONT, lambda *_: went_on.append(1))
print("ready", flush=True)
while not went_on:
    time.sleep(0.02)
sys.exit(5)
"""
    leader, follower = os.openpty()
    words = [script("bundle"), "run", "--hf-home", home, "--", sys.executable, "-c", code]
    shell = subprocess.Popen(
        [sys.executable, "-c", SMALL_SHELL, *words],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    seen = _read_until(leader, b"ready")
    os.write(leader, b"\x1a")
    seen += _read_until(leader, b"shell: ended with 5")
    assert b"shell: stopped" in seen
    assert shell.wait(TIMEOUT_SECONDS) == 0
    os.close(leader)


def _read_until(descriptor: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        seen += os.read(descriptor, 4096)
    return seen


def test_descriptors_that_a_launcher_left_for_the_command_reach_it(home: Path) -> None:
    reader, writer = os.pipe()
    words = [script("bundle"), "run", "--hf-home", home, "--", "sh", "-c", f"echo through > /dev/fd/{writer}"]
    subprocess.run(words, pass_fds=[writer], check=True, stderr=subprocess.DEVNULL)
    os.close(writer)
    assert os.read(reader, 100) == b"through\n"
    os.close(reader)


def test_nothing_is_left_in_the_temporary_folder(bundle_run: BundleRun, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    bundle_run(PYTHON, "-c", CONNECT, env={"TMPDIR": str(temporary)})
    assert list(temporary.iterdir()) == []
