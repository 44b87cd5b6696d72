"""Limits that a watcher keeps: real processes, and figures of a machine that has nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundler.offline.sandbox import limits
from bundler.offline.sandbox.family import end_family, list_family
from bundler.offline.sandbox.limits import Limits, Watcher
from bundler.offline.sandbox.remove_tree import remove_tree

SLEEPING = "import time; time.sleep(600)"
# A gigabyte, if what the copies share were counted in each.
SHARING = """
import os, sys, time
held = bytearray(os.urandom(1)) * (100 << 20)
for _ in range(9):
    if os.fork() == 0:
        time.sleep(float(sys.argv[1]) + 1)
        os._exit(0)
print("ready", flush=True)
time.sleep(float(sys.argv[1]))
"""
# Of a descriptor all pages are written by the mapping, so that they are there.
MAPPING = """
import mmap, os, sys, time
SIZE = 80 << 20
held = HOW
if isinstance(held, int):
    os.truncate(held, SIZE)
    held = mmap.mmap(held, SIZE)
for at in range(0, SIZE, 4096):
    held[at] = 1
time.sleep(float(sys.argv[1]))
"""


def watch(folder: Path, code: str, *words: str, **values: object) -> tuple[Watcher, int]:
    """Watch a program to its end; returns its watcher and its exit code."""
    watcher = Watcher(Limits(**values), [folder], lambda: 0)  # type: ignore[arg-type]
    process = subprocess.Popen([sys.executable, "-c", code, *words], start_new_session=True)
    status = watcher.wait(process.pid, folder)
    process.returncode = os.waitstatus_to_exitcode(status)
    return watcher, process.returncode


def test_memory_that_copies_share_is_counted_once(tmp_path: Path) -> None:
    watcher, code = watch(tmp_path, SHARING, "1", memory_bytes=600 << 20)
    assert (watcher.breach, code) == (None, 0)
    watcher, code = watch(tmp_path, SHARING, "600", memory_bytes=60 << 20)
    assert watcher.breach is not None and "62.9 MB of memory" in watcher.breach.what
    assert code == -9


@pytest.mark.parametrize("how", ["mmap.mmap(-1, SIZE)", "os.memfd_create('x')"])
def test_memory_for_sharing_is_memory_and_a_file_that_was_there_before_is_not(tmp_path: Path, how: str) -> None:
    code = MAPPING.replace("HOW", how)
    watcher, code_ended = watch(tmp_path, code, "600", memory_bytes=60 << 20)
    assert watcher.breach is not None and "62.9 MB of memory" in watcher.breach.what
    assert code_ended == -9
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        (Path(memory) / "there").write_bytes(bytes(80 << 20))
        how = f"os.open({str(Path(memory) / 'there')!r}, os.O_RDWR)"
        watcher, code_ended = watch(tmp_path, MAPPING.replace("HOW", how), "1", memory_bytes=60 << 20)
        assert (watcher.breach, code_ended) == (None, 0)


def test_files_in_memory_without_a_name_count_as_written(tmp_path: Path) -> None:
    code = """
import os, time
held = [os.memfd_create("x") for _ in range(9)]
twice = os.dup(held[0])
for each in held:
    os.write(each, bytes(COUNT << 20))
time.sleep(SECONDS)
"""
    code = code.replace("SECONDS", "float(__import__('sys').argv[1])")
    watcher, ended = watch(tmp_path, code.replace("COUNT", "1"), "0.5", written_bytes=16 << 20)
    assert (watcher.breach, ended) == (None, 0)
    watcher, ended = watch(tmp_path, code.replace("COUNT", "2"), "600", written_bytes=16 << 20)
    assert watcher.breach is not None and watcher.breach.what == "wrote more than 16.8 MB"
    assert ended == -9


@pytest.mark.parametrize(
    ("name", "said"), [("_free_memory", "of memory on this machine"), ("_free_disk", "on the disk")]
)
def test_what_nobody_can_be_blamed_for_ends_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    # At first as much as there is; a machine that has nothing left cannot be had for a test.
    figures = iter([8 << 30, 8 << 30])
    monkeypatch.setattr(limits, name, lambda *_: next(figures, 1 << 20))
    watcher, code = watch(tmp_path, SLEEPING)
    assert watcher.breach is not None and said in watcher.breach.what
    assert code == -9


def test_an_interrupted_watcher_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", SHARING, "600"], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    watcher = Watcher(Limits(), [tmp_path], lambda: 0)
    before = [member.pid for member in list_family(process.pid)]
    assert len(before) == 10

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watcher, "_look", interrupt)
    with pytest.raises(KeyboardInterrupt):
        watcher.wait(process.pid, tmp_path)
    process.wait()
    assert [pid for pid in before if _runs(pid)] == []


def test_a_step_that_goes_back_gets_no_more_time(tmp_path: Path) -> None:
    steps = iter([1, 0, *[1, 0] * 1000])
    watcher = Watcher(Limits(step_seconds=1), [tmp_path], lambda: next(steps))
    process = subprocess.Popen([sys.executable, "-c", SLEEPING])
    begun = time.monotonic()
    process.returncode = os.waitstatus_to_exitcode(watcher.wait(process.pid, tmp_path))
    assert watcher.breach == limits.Breach(1, "took more than 0.0166667 minutes", is_time=True)
    assert time.monotonic() - begun >= 1


def test_a_family_without_its_first_child_is_found_and_ended() -> None:
    code = "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(600)\n time.sleep(600)\n"
    process = subprocess.Popen([sys.executable, "-c", code + "time.sleep(600)"])
    while len(family := list_family(process.pid)) < 3:
        time.sleep(0.01)
    end_family(process.pid)
    process.wait()
    assert [member.pid for member in family if _runs(member.pid)] == []


def test_a_tree_of_closed_folders_of_any_depth_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "kept").write_text("kept")
    (top / "link").symlink_to(tmp_path)
    at = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("x", dir_fd=at)
        inner = os.open("x", os.O_RDONLY, dir_fd=at)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o000, dir_fd=inner))
        os.close(at)
        at = inner
    os.close(at)
    (top / "x").chmod(0o000)
    remove_tree(top)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_leaves_the_processor_to_nobody_is_looked_at_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = time.sleep

    def look(watcher: Watcher, child: int, noted: Path) -> limits.Breach | None:
        if pauses:
            return limits.Breach(0, "was looked at again")
        # Others run meanwhile.
        sleep(1.0)
        return None

    monkeypatch.setattr(Watcher, "_look", look)
    monkeypatch.setattr(limits, "time", SimpleNamespace(**vars(time) | {"sleep": pauses.append}))
    watcher, _ = watch(tmp_path, SLEEPING)
    assert watcher.breach is not None
    assert pauses[0] < 0.5
