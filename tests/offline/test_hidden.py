"""Ways in which what was refused could stay unknown: one test for each, and `--strict` ends with 11 in all of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.offline.conftest import COUNTING, KINDS, OUTSIDE, PYTHON, BundleRun, Ran, needs_netns, needs_seccomp
from tests.offline.kernel.test_isolation import RAW_CONNECT
from tests.support.messages import Told
from tests.support.process import run, script

COUNTED = [kind for kind in KINDS if kind in COUNTING]

# Seen by the guard, which leaves a note of it in a folder that the programs of a launch can write to.
ATTEMPT = f"""
import contextlib, glob, json, os, shutil, socket, subprocess, sys
notes = os.environ["BUNDLE_ATTEMPTS_DIR"]
def attempt():
    with contextlib.suppress(Exception):
        socket.socket().connect(("{OUTSIDE}", 80))
"""


def strictly(bundle_run: BundleRun, tmp_path: Path, kind: str, code: str) -> tuple[Ran, dict[str, Any]]:
    """Run code that tries the network, and hides it."""
    program, temporary = tmp_path / "program.py", tmp_path / "tmp"
    program.write_text(ATTEMPT + textwrap.dedent(code))
    temporary.mkdir(exist_ok=True)
    ran = bundle_run(PYTHON, program, options=("--isolate", kind, "--strict"), env={"TMPDIR": str(temporary)})
    return ran, ran.report["attempts"]  # type: ignore[return-value]


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("attempt(); [os.unlink(path) for path in glob.glob(notes + '/*')]", id="deleted"),
        pytest.param("attempt(); shutil.rmtree(os.environ['TMPDIR'] + '/')", id="temporary folder emptied"),
        pytest.param("attempt(); shutil.rmtree(notes); open(notes, 'w').close()", id="replaced by a file"),
        pytest.param("shutil.rmtree(notes); attempt()", id="nowhere to write"),
        pytest.param("os.environ['BUNDLE_ATTEMPTS_DIR'] = '/nowhere'; attempt()", id="redirected"),
        pytest.param("del os.environ['BUNDLE_ATTEMPTS_DIR']; attempt()", id="unset"),
        pytest.param("attempt(); [open(path, 'w').close() for path in glob.glob(notes + '/*')]", id="emptied"),
    ],
)
def test_a_refusal_whose_note_is_gone_is_counted_as_lost(
    bundle_run: BundleRun, tmp_path: Path, kind: str, code: str
) -> None:
    ran, counted = strictly(bundle_run, tmp_path, kind, code)
    assert (ran.code, counted["total"], counted["lost"]) == (11, 1, 1), ran.err


@pytest.mark.parametrize("kind", COUNTED)
def test_figures_of_an_inner_launch_that_are_forged_take_nothing_off(
    bundle_run: BundleRun, tmp_path: Path, kind: str
) -> None:
    forged = {"ended": True, "pid": 1, "argv": [], "count": -1, "denials": []}
    code = f"""
        os.mkdir(notes + "/launch-forged")
        open(notes + "/launch-forged/launch.json", "w").write(json.dumps({forged!r}))
        attempt()
    """
    ran, counted = strictly(bundle_run, tmp_path, kind, code)
    assert (ran.code, counted["python"], counted["inner"]) == (11, 1, 1), ran.err


@pytest.mark.parametrize("kind", COUNTED)
def test_expected_targets_that_an_inner_launch_has_without_a_count_make_up_for_nothing(
    bundle_run: BundleRun, tmp_path: Path, kind: str
) -> None:
    denial = {"call": "connect", "target": "8.8.8.8:80", "pid": 1, "argv": [], "count": 1}
    forged = {"ended": True, "pid": 1, "argv": [], "count": 0, "denials": [denial]}
    code = f"""
        os.mkdir(notes + "/launch-forged")
        open(notes + "/launch-forged/launch.json", "w").write(json.dumps({forged!r}))
        attempt()
    """
    program = tmp_path / "program.py"
    program.write_text(ATTEMPT + textwrap.dedent(code))
    ran = bundle_run(PYTHON, program, options=("--isolate", kind, "--strict", "--expect", "8.8.8.8:80"))
    assert ran.code == 11, ran.err


@pytest.mark.parametrize("kind", COUNTED)
def test_a_forged_note_of_an_expected_target_stands_for_no_other(
    bundle_run: BundleRun, tmp_path: Path, kind: str
) -> None:
    code = f"""
        attempt()
        (path,) = glob.glob(notes + "/*.jsonl")
        text = open(path).read().replace("{OUTSIDE}:80", "8.8.8.8:80")
        open(path, "w").write(text)
    """
    program = tmp_path / "program.py"
    program.write_text(ATTEMPT + textwrap.dedent(code))
    ran = bundle_run(PYTHON, program, options=("--isolate", kind, "--strict", "--expect", "8.8.8.8:80"))
    assert (ran.code, ran.report["attempts"]["lost"]) == (11, 1), ran.err  # type: ignore[index]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("kind", COUNTED)
def test_a_program_that_gives_up_its_user_cannot_write_a_note_and_is_counted(
    bundle_run: BundleRun, tmp_path: Path, kind: str
) -> None:
    ran, counted = strictly(
        bundle_run, tmp_path, kind, "os.setgroups([]); os.setgid(65534); os.setuid(65534); attempt()"
    )
    assert (ran.code, counted["total"]) == (11, 1), ran.err


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in COUNTING])
def test_where_nobody_counts_a_folder_of_notes_that_is_gone_is_known_to_be(
    bundle_run: BundleRun, tmp_path: Path, kind: str
) -> None:
    ran, counted = strictly(bundle_run, tmp_path, kind, "attempt(); shutil.rmtree(notes)")
    assert (ran.code, counted["total"], len(counted["uncounted"])) == (11, 0, 1), ran.err


@pytest.mark.parametrize("kind", KINDS)
def test_strict_says_what_it_speaks_for(bundle_run: BundleRun, kind: str, told: Told) -> None:
    ran = bundle_run("true", options=("--isolate", kind, "--strict"))
    (line,) = [line for line in ran.err.splitlines() if line.startswith("  --strict")]
    assert ran.code == 0
    told("launch", f"what --strict speaks for under {kind}", line)


@needs_netns
def test_a_namespace_of_a_programs_own_counts_since_nobody_looks_into_it(bundle_run: BundleRun) -> None:
    code = "import ctypes; assert ctypes.CDLL(None).unshare(0x40000000 | 0x10000000) == 0" + RAW_CONNECT
    ran = bundle_run(PYTHON, "-c", code, options=("--isolate", "netns", "--strict"))
    assert (ran.code, ran.out) == (11, "Network is unreachable\n"), ran.err
    (denial,) = ran.report["attempts"]["kernel_refused"]  # type: ignore[index]
    assert denial["target"].startswith("unknown: a network namespace")


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize("inner", ["landlock", "seccomp", "netns"])
def test_an_inner_launch_keeps_no_refusal_from_the_outer_one(bundle_run: BundleRun, kind: str, inner: str) -> None:
    """A filter of its own would refuse the datagram socket before the outer launch could count anything."""
    if inner not in KINDS:
        pytest.skip(f"this machine has no {inner}")
    code = RAW_CONNECT.replace("SOCK_STREAM", "SOCK_DGRAM")
    words = [script("bundle"), "run", "--isolate", inner, "--", PYTHON, "-S", "-c", code]
    ran = bundle_run(*words, options=("--isolate", kind, "--strict"))
    assert (ran.code, ran.attempts) == (11, (0, 1)), ran.err


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_that_outlives_the_command_cannot_be_counted(
    bundle_run: BundleRun, tmp_path: Path, kind: str, told: Told
) -> None:
    pid = tmp_path / "pid"
    ran = bundle_run(
        "sh", "-c", f"setsid sleep 600 >/dev/null 2>&1 & echo $! > {pid}", options=("--isolate", kind, "--strict")
    )
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert (ran.code, ran.report["attempts"]["total"]) == (11, 0), ran.err  # type: ignore[index]
    (line,) = [line for line in ran.err.splitlines() if line.startswith("    unknown: ")]
    told("launch", "a process outlives the command", line.replace(pid.read_text().strip(), "{pid}"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_helper_that_goes_a_moment_after_the_command_is_waited_for(bundle_run: BundleRun, kind: str) -> None:
    """As the resource tracker of multiprocessing does, once the pipe to its parent is closed."""
    ran = bundle_run("sh", "-c", "(sleep 0.2) & true", options=("--isolate", kind, "--strict"))
    assert (ran.code, ran.report["attempts"]["uncounted"]) == (0, []), ran.err  # type: ignore[index]


def test_a_launcher_that_is_killed_does_not_end_as_if_all_were_well(home: Path) -> None:
    words = [script("bundle"), "run", "--hf-home", home, "--strict", "--", "sh", "-c", "kill -KILL $PPID"]
    assert subprocess.run(words, capture_output=True).returncode == -signal.SIGKILL


@needs_netns
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler is installed")
def test_a_program_that_connects_in_its_first_moment_is_counted(bundle_run: BundleRun, tmp_path: Path) -> None:
    source, program = tmp_path / "fast.c", tmp_path / "fast"
    source.write_text(
        "#include <arpa/inet.h>\n"
        "int main(void) {\n"
        "  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = 20480};\n"
        f'  inet_pton(AF_INET, "{OUTSIDE}", &a.sin_addr);\n'
        "  return connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof a) ? 0 : 1;\n"
        "}\n"
    )
    if run(["cc", "-O1", "-static", "-o", program, source], check=False).returncode:
        run(["cc", "-O1", "-o", program, source])
    assert [bundle_run(program, options=("--isolate", "netns")).attempts for _ in range(8)] == [(0, 1)] * 8


# What a program is known to try


@pytest.mark.parametrize("kind", KINDS)
def test_expected_probes_are_named_and_pass_and_others_do_not(
    bundle_run: BundleRun, kind: str, told: Told
) -> None:
    code = ATTEMPT + "attempt(); attempt()"
    options = ("--isolate", kind, "--strict", "--expect", f"{OUTSIDE}:80", "--expect", "metadata.example:80")
    ran = bundle_run(PYTHON, "-c", code, options=options)
    assert ran.code == 0, ran.err
    assert ran.report["attempts"]["expected"] == [  # type: ignore[index]
        {"target": f"{OUTSIDE}:80", "count": 2},
        {"target": "metadata.example:80", "count": 0},
    ]
    lines = [line for line in ran.err.splitlines() if line.startswith("    expected: ")]
    told("launch", "expected targets in the report", "\n".join(lines))
    more = code + f"\nwith contextlib.suppress(Exception): socket.socket().connect(('{OUTSIDE}', 81))"
    assert bundle_run(PYTHON, "-c", more, options=options).code == 11


@needs_seccomp
def test_probes_of_compiled_code_can_be_expected_without_a_word_about_isolation(bundle_run: BundleRun) -> None:
    words = ("curl", "-s", f"http://{OUTSIDE}:80")
    assert bundle_run("sh", "-c", '"$@" || true', "sh", *words, options=("--strict",)).code == 11
    options = ("--strict", "--expect", f"{OUTSIDE}:80")
    assert bundle_run("sh", "-c", '"$@" || true', "sh", *words, options=options).code == 0


def test_a_look_up_of_an_expected_name_is_expected(bundle_run: BundleRun) -> None:
    code = "import socket\ntry: socket.getaddrinfo('metadata.example', 80)\nexcept Exception: pass"
    ran = bundle_run(PYTHON, "-c", code, options=("--strict", "--expect", "metadata.example:80"))
    assert ran.code == 0, ran.err


def test_an_expectation_that_is_no_target_is_refused(bundle_run: BundleRun, told: Told) -> None:
    ran = bundle_run("true", options=("--expect", "metadata.example"))
    assert ran.code == 2
    told("launch", "an expectation that is no target", ran.err)
