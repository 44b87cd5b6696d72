"""bundler.files.small_files: many small files at once, each as safe as one alone."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from bundler.files.small_files import SmallFiles
from tests.support.bundles import tree


def test_all_files_are_there_when_the_block_ends(tmp_path: Path) -> None:
    names = [f"{number % 7}/{number}" for number in range(300)]
    with SmallFiles() as files:
        for name in names:
            files.write(tmp_path / name, name.encode())
    assert {name: (tmp_path / name).read_text() for name in tree(tmp_path)} == {name: name for name in names}


def test_a_file_has_its_name_only_once_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_sync: list[bool] = []
    sync = os.fsync
    monkeypatch.setattr("os.fsync", lambda number: (at_sync.append((tmp_path / "a").exists()), sync(number)))
    with SmallFiles() as files:
        files.write(tmp_path / "a", b"content")
    assert at_sync == [False]


def test_they_are_synced_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(8)
    # Ends only when eight syncs are under way at once.
    monkeypatch.setattr("os.fsync", lambda number: together.wait(60))
    with SmallFiles() as files:
        for number in range(8):
            files.write(tmp_path / str(number), b"")


def test_one_that_cannot_be_written_is_an_error_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError), SmallFiles() as files:
        files.write(tmp_path / "taken", b"content")
        files.write(tmp_path / "other", b"content")
    assert [path for path in tree(tmp_path) if path != "other"] == []


def test_an_error_is_told_at_the_next_file_and_the_others_are_finished_first(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    given = 0
    with pytest.raises(IsADirectoryError), SmallFiles() as files:
        files.write(tmp_path / "good", b"content")
        while True:
            files.write(tmp_path / "taken", b"content")
            given += 1
    assert (tmp_path / "good").read_bytes() == b"content"
    assert given >= 1
