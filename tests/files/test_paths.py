"""bundler.files.paths: what counts as a plain relative path, and writing whole files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bundler.errors import FormatError, UsageError
from bundler.files.paths import (
    TEMPORARY_PREFIX,
    atomic_write,
    atomic_writer,
    check_relative_path,
    check_writable,
    inside,
    is_leftover,
    remove_leftovers,
    temporary_path,
)


@pytest.mark.parametrize("path", ["a", "a/b.json", ".no_exist/x", "1_Pool/x.json", "ünï/日本.txt", "a b", "..."])
def test_a_plain_relative_path_is_accepted_unchanged(path: str) -> None:
    assert check_relative_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a/./b",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "a\nb",
        "a\0b",
        "\ud800",
    ],
)
def test_a_path_that_could_leave_its_root_or_be_spelt_twice_is_refused(path: str) -> None:
    with pytest.raises(FormatError, match=r"files\[0\]"):
        check_relative_path(path, what="files[0]")


def test_names_longer_than_file_systems_take_are_refused() -> None:
    with pytest.raises(FormatError, match="longer"):
        check_relative_path("a/" + "ä" * 128)
    assert check_relative_path("ä" * 127)


def test_inside_joins_below_the_root(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b") == tmp_path / "a" / "b"


def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    atomic_write(target, b"old")
    with pytest.raises(RuntimeError), atomic_writer(target) as stream:
        stream.write(b"half of the n")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_reader_never_sees_a_file_half_written(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with atomic_writer(target) as stream:
        stream.write(b"x" * 100_000)
        stream.flush()
        assert not target.exists()
    assert target.stat().st_size == 100_000


def test_leftovers_of_a_killed_process_are_deleted_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from bundler.files.paths import temporary_path;"
        "p = temporary_path(pathlib.Path(sys.argv[1])); p.write_bytes(b'half'); print(p, flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stdin
    left = Path(child.stdout.readline().strip())
    (tmp_path / "model.safetensors").write_bytes(b"not ours")
    try:
        assert remove_leftovers(tmp_path, now=time.time()) == []
        child.kill()
        child.wait()
        assert remove_leftovers(tmp_path, now=time.time()) == [left]
    finally:
        child.stdin.close()
        child.stdout.close()
        child.kill()
        child.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_temporary_file_of_another_host_is_kept_for_a_day(tmp_path: Path) -> None:
    foreign = tmp_path / f"{TEMPORARY_PREFIX}00000000-1-abc"
    foreign.touch()
    assert not is_leftover(foreign, now=time.time())
    assert is_leftover(foreign, now=time.time() + 25 * 3600)


def test_temporary_names_stand_beside_their_target(tmp_path: Path) -> None:
    first, second = temporary_path(tmp_path), temporary_path(tmp_path)
    assert first != second
    assert first.parent == tmp_path
    assert str(os.getpid()) in first.name


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where nobody can make a file, nor root")
def test_a_folder_that_takes_no_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"^/proc: no file can be written there: "):
        check_writable(Path("/proc"))


def test_a_folder_that_takes_files_is_left_as_it_is(tmp_path: Path) -> None:
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
