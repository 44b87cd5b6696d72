"""`bundle run`: verify, launch, report; what the command sees and what the caller gets back."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.home.install import install
from tests.offline.conftest import COUNTING, KINDS, OUTSIDE, PYTHON, BundleRun, needs_netns
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle
from tests.support.messages import Told
from tests.support.process import TIMEOUT_SECONDS, Child, script

CONNECT = f"import socket; socket.socket().connect(('{OUTSIDE}', 80))"
LOAD = "from transformers import AutoTokenizer as A; print(A.from_pretrained('short')('hello world').input_ids)"
BROKEN = {
    "HF_HUB_OFFLINE": "0",
    "https_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_HUB_CACHE": "/nowhere",
    "HF_TOKEN_PATH": "/nowhere",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_loads_by_alias_with_no_attempt_whatever_the_users_environment(
    bundle_run: BundleRun, kind: str
) -> None:
    ran = bundle_run(PYTHON, "-c", LOAD, options=("--isolate", kind, "--strict"), env=BROKEN)
    assert (ran.code, ran.out) == (0, "[0, 1]\n"), ran.err
    assert ran.attempts == (0, 0 if kind in COUNTING else None)


def test_code_that_insists_on_a_token_or_on_the_network_loads_from_the_bundle(bundle_run: BundleRun) -> None:
    for argument in ("token=True", "local_files_only=False"):
        ran = bundle_run(PYTHON, "-c", LOAD.replace("'short'", f"'short', {argument}"))
        assert (ran.code, ran.out) == (0, "[0, 1]\n"), ran.err


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_strace_sees_no_internet_socket_used(bundle_run: BundleRun, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    words = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", trace, PYTHON, "-c", LOAD]
    ran = bundle_run(*words, options=("--isolate", "none"), env=BROKEN)
    if "ptrace" in ran.err:
        pytest.skip("this machine lets nobody trace")
    assert ran.out == "[0, 1]\n"
    assert [line for line in trace.read_text().splitlines() if "AF_INET" in line] == []


def test_attempts_are_reported_with_count_target_and_code_line(bundle_run: BundleRun, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import socket\nfor _ in range(3):\n    try:\n        socket.create_connection(('{OUTSIDE}', 80))\n"
        "    except RuntimeError:\n        pass\n"
    )
    ran = bundle_run(PYTHON, program)
    assert ran.code == 0
    assert ran.attempts[0] == 3
    line = f"3 x {OUTSIDE}:80, by {program}:4 `socket.create_connection(('{OUTSIDE}', 80))`"
    assert line in ran.err


def test_strict_turns_a_swallowed_attempt_into_exit_11(bundle_run: BundleRun) -> None:
    words = [PYTHON, "-c", f"try:\n    {CONNECT.replace('; ', chr(10) + '    ')}\nexcept RuntimeError: pass"]
    assert bundle_run(*words).code == 0
    assert bundle_run(*words, options=("--strict",)).code == 11


@needs_netns
def test_an_attempt_of_compiled_code_counts_under_strict(bundle_run: BundleRun) -> None:
    from tests.offline.kernel.test_isolation import RAW_CONNECT

    ran = bundle_run(PYTHON, "-c", RAW_CONNECT, options=("--strict",))
    assert (ran.code, ran.attempts) == (11, (0, 1))


def test_a_report_that_cannot_be_written_is_refused_before_the_command_starts(
    bundle_run: BundleRun, tmp_path: Path, told: Told
) -> None:
    # Nobody can write there, not even root.
    ran = bundle_run("touch", tmp_path / "started", options=("--report", "/proc/report.json"))
    assert ran.code == 2
    told("launch", "a report that cannot be written", ran.err.replace(os.strerror(errno.ENOENT), "{reason}"))
    assert not (tmp_path / "started").exists()


def test_without_a_namespace_the_report_says_what_it_cannot_know(bundle_run: BundleRun, told: Told) -> None:
    ran = bundle_run("true", options=("--isolate", "none"))
    assert ran.attempts == (0, None)
    (line,) = [line for line in ran.err.splitlines() if line.startswith("  attempts")]
    told("launch", "the report of a launch that the kernel does not count", line)


def test_the_report_names_bundle_digest_and_isolation(bundle_run: BundleRun) -> None:
    ran = bundle_run("true", options=("--isolate", "none"))
    (bundle,) = ran.report["bundles"]  # type: ignore[misc]
    assert bundle["name"] == "tiny"
    assert re.fullmatch("sha256:[0-9a-f]{64}", bundle["digest"])
    assert (bundle["files"], bundle["quick"]) == (3, False)
    assert ran.report["isolation"]["kind"] == "none"  # type: ignore[index]
    assert (ran.report["command"], ran.report["exit_code"]) == (["true"], 0)
    assert f"verified tiny {bundle['digest']}" in ran.err


def test_nothing_of_ours_goes_to_the_commands_stdout(bundle_run: BundleRun) -> None:
    assert bundle_run("echo", "data").out == "data\n"


@pytest.mark.parametrize(
    ("code", "subject", "section"),
    [
        ("from transformers import AutoTokenizer as A; A.from_pretrained('org/gone')", "model org/gone", "models"),
        ("from huggingface_hub import snapshot_download as d; d('org/gone')", "model org/gone", "models"),
        ("from datasets import load_dataset as d; d('org/gone')", "dataset org/gone", "datasets"),
    ],
)
def test_what_is_missing_is_named_with_the_manifest_line_that_brings_it(
    bundle_run: BundleRun, home: Path, code: str, subject: str, section: str
) -> None:
    """The libraries' own words speak of an internet connection."""
    ran = bundle_run(PYTHON, "-c", code)
    assert (ran.code, ran.attempts[0]) == (1, 0)
    assert f"{subject} is not in {home}\n" in ran.err
    assert re.search(f"`- repo_id: .*` under {section}", ran.err)


@pytest.mark.parametrize(
    "code",
    [
        "from transformers import AutoModel as A; A.from_pretrained('short')",
        "from transformers import AutoTokenizer as A; A.from_pretrained('short', revision='v2')",
        "from huggingface_hub import hf_hub_download as d; d('org/tiny-model', 'model.safetensors')",
        "from datasets import load_dataset as d; d('org/tiny-dataset', 'other')",
    ],
)
def test_of_a_repo_that_is_there_in_part_the_missing_part_is_named(
    bundle_run: BundleRun, home: Path, tmp_path: Path, code: str, told: Told
) -> None:
    files = {"config.json": b"{}"}
    repos = (
        replace(locked_repo("org/tiny-dataset", files, kind="dataset"), configs=("default",)),
        locked_repo("org/tiny-model", files),
    )
    install(tiny_bundle(tmp_path / "more", *repos, name="more", contents=files.values()), home)
    ran = bundle_run(PYTHON, "-c", code)
    assert (ran.code, ran.attempts[0]) == (1, 0)
    [note] = re.findall(r"^offline: .* is not in .*\n  hint: .*", ran.err, re.MULTILINE)
    told("missing", code, note, home=home, commit=COMMIT[:12])


def test_what_a_thread_did_not_find_is_named_too(bundle_run: BundleRun, home: Path) -> None:
    code = """
        import threading
        from transformers import AutoTokenizer
        threading.Thread(target=AutoTokenizer.from_pretrained, args=("org/gone",)).start()
    """
    ran = bundle_run(PYTHON, "-c", textwrap.dedent(code))
    assert ran.err.count(f"\noffline: file config.json of model org/gone is not in {home}\n") == 1


# Refusals


def test_a_network_that_is_none_is_an_error_of_the_command_line(
    bundle_run: BundleRun, tmp_path: Path, told: Told
) -> None:
    ran = bundle_run("touch", tmp_path / "started", options=("--allow-net", "nodes.example"))
    assert ran.code == 2
    told("launch", "a network that is none", ran.err)
    assert not (tmp_path / "started").exists()


def test_the_whole_internet_in_reach_is_warned_of(bundle_run: BundleRun, told: Told) -> None:
    for given in (["0.0.0.0/0"], ["0.0.0.0/1", "128.0.0.0/1"]):
        options = [word for network in given for word in ("--allow-net", network)]
        ran = bundle_run("true", options=(*options, "--isolate", "none"))
        (line,) = [line for line in ran.err.splitlines() if line.startswith("warning: --allow-net")]
        told("launch", "the whole internet is in reach", line)


def test_a_changed_blob_stops_the_launch_and_is_named(bundle_run: BundleRun, home: Path, tmp_path: Path) -> None:
    (blob,) = [p for p in (home / "hub").glob("*/snapshots/*/tokenizer.json") if "tiny-tokenizer" in str(p)]
    content = bytearray(blob.read_bytes())
    content[10] ^= 1
    blob.resolve().write_bytes(content)
    ran = bundle_run("touch", tmp_path / "started")
    assert ran.code == 6
    assert "tokenizer.json" in ran.err
    assert not (tmp_path / "started").exists()
    assert ran.report == {}


def test_a_missing_blob_stops_even_a_quick_launch(bundle_run: BundleRun, home: Path) -> None:
    next((home / "hub").glob("*/snapshots/*/config.json")).resolve().unlink()
    assert bundle_run("true", options=("--quick",)).code == 6


def test_an_unknown_bundle_is_refused_with_close_names(bundle_run: BundleRun, home: Path, told: Told) -> None:
    ran = bundle_run("true", options=("--bundle", "tinny"))
    assert ran.code == 9
    told("launch", "a bundle that is not installed", ran.err, home=home)


def test_an_empty_cache_is_refused_with_the_next_step(bundle_run: BundleRun, tmp_path: Path, told: Told) -> None:
    ran = bundle_run("true", options=("--hf-home", str(tmp_path / "empty")))
    assert ran.code == 9
    told("launch", "a cache without bundles", ran.err, home=tmp_path / "empty")


# Exit codes and signals


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
