"""A program in a sandbox sees its own files, none of ours, and leaves nothing behind: real processes, each kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from bundler.offline.launch.launch import Completed, run_isolated
from bundler.offline.sandbox.limits import Limits, Watcher
from bundler.offline.sandbox.sandbox import SandboxKind, choose_sandbox, make_entry
from bundler.offline.sandbox.visible import visible_to_python

KINDS = [kind for kind in ("namespaces", "landlock") if choose_sandbox((kind,)).kind == kind]  # type: ignore[comparison-overlap]
pytestmark = pytest.mark.skipif(not KINDS, reason="this kernel has no sandbox")

# Notes what came of each of its tries: text, a list, or the name of an error.
PROBE = """
import json, os, socket, subprocess, sys
own, scratch, secret, tries = sys.argv[1], sys.argv[2], sys.argv[3], {}
def attempt(name, action):
    try:
        tries[name] = action()
    except Exception as error:
        tries[name] = type(error).__name__
attempt("own", lambda: open(own).read())
attempt("own changed", lambda: open(own, "a").write("x"))
attempt("own cut", lambda: os.truncate(own, 0))
attempt("own replaced", lambda: os.rename(scratch + "/other", own))
attempt("secret", lambda: open(secret).read())
attempt("linked", lambda: (os.symlink(secret, scratch + "/link"), open(scratch + "/link").read()))
attempt("beside secret", lambda: open(os.path.dirname(secret) + "/new", "w").write("x"))
attempt("scratch", lambda: open(scratch + "/new", "w").write("x"))
attempt("code", lambda: open(os.__file__, "a").write("x"))
attempt("kernel", lambda: open("/proc/sys/kernel/core_pattern", "w").write("x"))
attempt("parent", lambda: open(f"/proc/{sys.argv[4]}/environ").read())
attempt("signal", lambda: os.kill(int(sys.argv[4]), 0))
attempt("socket", lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[5]))
attempt("pair", lambda: len(socket.socketpair()))
attempt("mount", lambda: subprocess.run(["mount", "-t", "tmpfs", "x", scratch], capture_output=True).returncode != 0)
attempt("child", lambda: subprocess.run([sys.executable, "-c", "print(5)"], capture_output=True).stdout.decode())
attempt("home", lambda: os.listdir(os.path.expanduser("~")))
json.dump(tries, open(scratch + "/tries.json", "w"))
"""


def run_in(
    kind: SandboxKind, folder: Path, code: str, *arguments: object, watcher: Watcher | None = None
) -> tuple[Completed, Path]:
    """Run Python code in a sandbox that shows `folder/own`; return how it ended, and the folder that it could write."""
    for name in ("root", "scratch/home"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    scratch = folder / "scratch"
    (folder / "own").write_text("mine")
    (scratch / "other").write_text("other")
    limits = watcher.limits if watcher else None
    visible = visible_to_python([folder / "own"], [scratch])
    entry = make_entry(choose_sandbox((kind,)), visible, folder / "root", limits)
    argv = [sys.executable, "-c", code, folder / "own", scratch, *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": str(scratch / "home"), "TMPDIR": str(scratch)}
    wait = watcher.wait if watcher else None
    done = run_isolated([str(word) for word in argv], env=environment, confine=entry, wait=wait, cwd=scratch)
    return done, scratch


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_reads_its_own_files_writes_its_scratch_folder_and_nothing_else(
    tmp_path: Path, kind: SandboxKind
) -> None:
    import socket

    secret = tmp_path / "outside" / "id_ed25519"
    secret.parent.mkdir()
    secret.write_text("PRIVATE KEY")
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "agent"))
        daemon.listen()
        done, scratch = run_in(kind, tmp_path, PROBE, secret, os.getpid(), tmp_path / "agent")
    assert done.exit_code == 0
    tries: dict[str, Any] = json.loads((scratch / "tries.json").read_text())
    allowed = {name: tries.pop(name) for name in ("own", "scratch", "pair", "mount", "child", "home")}
    assert allowed == {"own": "mine", "scratch": 1, "pair": 2, "mount": True, "child": "5\n", "home": []}
    refusals = {"PermissionError", "FileNotFoundError", "OSError", "ProcessLookupError"}
    assert {name: result for name, result in tries.items() if result not in refusals} == {}
    assert (tmp_path / "own").read_text() == "mine" and list(secret.parent.iterdir()) == [secret]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_program_started_ends_with_it(tmp_path: Path, kind: SandboxKind) -> None:
    daemon = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            open(sys.argv[2] + "/alive", "a").write(".")
            time.sleep(0.01)
    os._exit(0)
while not os.path.exists(sys.argv[2] + "/alive"):
    time.sleep(0.01)
sys.exit(7)
"""
    done, scratch = run_in(kind, tmp_path, daemon)
    assert done.exit_code == 7
    size = (scratch / "alive").stat().st_size
    time.sleep(0.2)
    assert (scratch / "alive").stat().st_size == size


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_a_signal_ended_has_the_exit_code_of_it(tmp_path: Path, kind: SandboxKind) -> None:
    # Not by kill(2): the first process of a namespace does not die of a signal of its own.
    done, _ = run_in(kind, tmp_path, "import ctypes; ctypes.string_at(0)")
    assert done.exit_code == 128 + 11


@pytest.mark.parametrize("kind", KINDS)
def test_when_the_launcher_is_killed_the_program_ends_too(tmp_path: Path, kind: SandboxKind) -> None:
    alive = tmp_path / "scratch" / "alive"
    code = """
import sys, time
while True:
    open(sys.argv[2] + "/alive", "a").write(".")
    time.sleep(0.01)
"""
    launcher = f"""
from pathlib import Path
from tests.offline.sandbox.test_sandbox import run_in
run_in({kind!r}, Path({str(tmp_path)!r}), {code!r})
"""
    with subprocess.Popen([sys.executable, "-c", launcher], cwd=Path(__file__).parents[3]) as process:
        while not alive.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    time.sleep(0.5)
    size = alive.stat().st_size
    time.sleep(0.2)
    assert alive.stat().st_size == size


def test_a_folder_on_the_path_shows_its_packages_and_not_what_lies_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package").mkdir()
    for name in ("package/__init__.py", "module.py", ".env", "token", "data.json"):
        (tmp_path / name).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    shown = {path.name for path in visible_to_python((), ()).read if path.is_relative_to(tmp_path)}
    assert shown == {"package", "module.py"}


def test_a_home_that_is_an_installation_shows_its_programs_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bin", "lib", ".ssh"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    shown = {path.name for path in visible_to_python((), ()).read if path.is_relative_to(tmp_path)}
    assert shown == {"bin", "lib"}


# Mounts of the sandbox's own table, and what can be changed there.
MOUNTS = """
import json, os, sys
changed = {}
for line in open("/proc/self/mountinfo"):
    place, found = line.split()[4], []
    def attempt(name, action):
        try:
            action()
            found.append(name)
        except OSError:
            pass
    attempt("mode", lambda: os.chmod(place, os.stat(place).st_mode & 0o7777))
    attempt("times", lambda: os.utime(place))
    attempt("names", lambda: os.mkdir(place + "/new"))
    if found:
        changed[place] = found
json.dump(changed, open(sys.argv[2] + "/changed.json", "w"))
open("/dev/null", "w").write("x")
"""


@pytest.mark.skipif("namespaces" not in KINDS, reason="this kernel has no namespaces")
def test_of_all_mounts_three_folders_can_be_changed_and_no_device(tmp_path: Path) -> None:
    done, scratch = run_in("namespaces", tmp_path, MOUNTS)
    assert done.exit_code == 0
    changed = json.loads((scratch / "changed.json").read_text())
    [noted] = [place for place in changed if Path(place).name.startswith("bundle-attempts-")]
    assert set(changed) == {str(scratch), noted, "/dev/shm"}


# Without names, so that nobody finds them but by their file system.
SHARES = """
import os, time
held = []
for number in range(9):
    held.append(open(f"/dev/shm/{number}", "wb", buffering=0))
    os.unlink(f"/dev/shm/{number}")
    try:
        held[-1].write(bytes(4 << 20))
    except OSError:
        pass
time.sleep(600)
"""
NAMES = """
import os, time
try:
    for number in range(10**6):
        open(f"/dev/shm/{number}", "wb").close()
except OSError:
    time.sleep(600)
"""


@pytest.mark.skipif("namespaces" not in KINDS, reason="this kernel has no namespaces")
@pytest.mark.parametrize("code", [SHARES, NAMES], ids=["bytes", "names"])
def test_what_is_in_dev_shm_counts_as_written(tmp_path: Path, code: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    watcher = Watcher(Limits(written_bytes=16 << 20), [scratch], lambda: 0)
    done, _ = run_in("namespaces", tmp_path, code, watcher=watcher)
    assert watcher.breach is not None and watcher.breach.what == "wrote more than 16.8 MB"
    assert done.exit_code == 128 + 9


@pytest.mark.skipif("namespaces" not in KINDS, reason="this kernel has no namespaces")
def test_a_store_may_be_in_dev_shm(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        code = "import sys; open(sys.argv[2] + '/new', 'w').write(open(sys.argv[1]).read())"
        done, scratch = run_in("namespaces", Path(memory), code)
        assert (done.exit_code, (scratch / "new").read_text()) == (0, "mine")
