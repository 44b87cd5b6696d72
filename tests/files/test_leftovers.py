"""bundler.files.leftovers: what killed processes left goes, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.files.atomic import TEMPORARY_PREFIX
from bundler.files.leftovers import is_leftover, make_temporary_folder, remove_leftovers
from bundler.files.owner import Owner


def test_leftovers_of_a_killed_process_are_deleted_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from bundler.files.atomic import temporary_path;"
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


def test_the_temporary_folder_of_a_killed_process_goes_with_the_next_one_that_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import sys; from bundler.files.leftovers import make_temporary_folder as make\n"
        "with make('bundle-x-') as folder: (folder / 'half').touch(); print(folder, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as child:
        assert child.stdout
        left = Path(child.stdout.readline().strip())
        others = [tmp_path / "bundle-x-1", tmp_path / f"bundle-y-{Owner.current().mark}"]
        for other in others:
            other.mkdir()
        with make_temporary_folder("bundle-x-") as folder:
            assert left.exists() and folder.is_dir()
        child.kill()
    assert (left / "half").exists()
    with make_temporary_folder("bundle-x-") as folder:
        assert sorted(tmp_path.iterdir()) == sorted([folder, *others])
    assert sorted(tmp_path.iterdir()) == sorted(others)


@pytest.mark.parametrize("mark", ["00000000-00000000-1-2-abc", "00000000-1-2-abc", "00000000-1-abc", "abc", ""])
def test_a_temporary_file_of_another_system_or_version_is_kept_for_a_day(tmp_path: Path, mark: str) -> None:
    foreign = tmp_path / f"{TEMPORARY_PREFIX}{mark}"
    foreign.touch()
    assert not is_leftover(foreign, now=time.time())
    assert is_leftover(foreign, now=time.time() + 25 * 3600)


def test_a_number_that_another_process_has_by_now_does_not_keep_a_file(tmp_path: Path) -> None:
    earlier = replace(Owner.current(), start_ticks=Owner.current().start_ticks - 1)
    left = tmp_path / f"{TEMPORARY_PREFIX}{earlier.mark}-abc"
    left.touch()
    assert is_leftover(left, now=time.time())
