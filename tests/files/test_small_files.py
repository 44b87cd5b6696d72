"""bundler.files.small_files: many small files at once, each as safe as one alone."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundler.files.atomic import TEMPORARY_PREFIX
from bundler.files.small_files import SmallFiles, _is_safe_to_sync_whole
from tests.support.bundles import tree


def test_all_files_are_there_when_the_block_ends(tmp_path: Path) -> None:
    names = [f"{number % 7}/{number}" for number in range(300)]
    with SmallFiles() as files:
        for name in names:
            files.write(tmp_path / name, name.encode())
    assert {name: (tmp_path / name).read_text() for name in tree(tmp_path)} == {name: name for name in names}


def test_a_file_has_its_name_only_once_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_sync: list[bool] = []

    def sync(descriptor: int) -> bool:
        at_sync.append((tmp_path / "a").exists())
        return True

    monkeypatch.setattr("bundler.files.small_files._is_safe_to_sync_whole", lambda folder: True)
    monkeypatch.setattr("bundler.files.small_files._MANY_FILES", 1)
    monkeypatch.setattr("bundler.files.small_files._sync_file_system", sync)
    with SmallFiles() as files:
        files.write(tmp_path / "a", b"content")
    assert at_sync == [False]
    assert (tmp_path / "a").read_bytes() == b"content"


def test_one_sync_is_for_many_files_and_each_batch_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[int] = []

    def sync(descriptor: int) -> bool:
        named.append(len([path for path in tree(tmp_path) if not path.startswith(TEMPORARY_PREFIX)]))
        return True

    monkeypatch.setattr("bundler.files.small_files._is_safe_to_sync_whole", lambda folder: True)
    monkeypatch.setattr("bundler.files.small_files._MANY_FILES", 1)
    monkeypatch.setattr("bundler.files.small_files._sync_file_system", sync)
    monkeypatch.setattr("bundler.files.small_files._BATCH_FILES", 10)
    with SmallFiles() as files:
        for number in range(25):
            files.write(tmp_path / str(number), b"content")
    assert named == [0, 10, 20]


def test_where_the_sync_of_all_tells_of_a_failure_each_file_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.files.small_files._is_safe_to_sync_whole", lambda folder: True)
    monkeypatch.setattr("bundler.files.small_files._MANY_FILES", 1)
    monkeypatch.setattr("bundler.files.small_files._sync_file_system", lambda descriptor: False)
    with SmallFiles() as files:
        files.write(tmp_path / "good", b"content")
    assert [*tree(tmp_path)] == ["good"]

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="Input/output error") as caught, SmallFiles() as files:
        files.write(tmp_path / "bad", b"content")
    assert caught.value.filename == str(tmp_path / "bad")
    assert [*tree(tmp_path)] == ["good"]


def test_files_of_a_file_system_that_promises_less_are_synced_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(8)
    monkeypatch.setattr("bundler.files.small_files._is_safe_to_sync_whole", lambda folder: False)
    # Ends only when eight syncs are under way at once.
    monkeypatch.setattr("os.fsync", lambda number: together.wait(60))
    with SmallFiles() as files:
        for number in range(8):
            files.write(tmp_path / str(number), b"")


def test_an_old_kernel_and_another_system_are_not_asked_to_sync_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for release in ("5.7.19", "4.18.0-553.el8", "odd"):
        monkeypatch.setattr("os.uname", lambda release=release: SimpleNamespace(release=release))
        assert not _is_safe_to_sync_whole(str(tmp_path))
    monkeypatch.undo()
    monkeypatch.setattr("sys.platform", "darwin")
    assert not _is_safe_to_sync_whole(str(tmp_path))


def test_a_file_that_takes_the_place_of_one_that_all_may_read_may_be_read_by_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o644)
    umask = os.umask(0o077)
    try:
        with SmallFiles() as files:
            files.write(tmp_path / "a", b"new")
            files.write(tmp_path / "b", b"new")
    finally:
        os.umask(umask)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o644, 0o600]


def test_one_that_cannot_be_written_is_an_error_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError), SmallFiles() as files:
        files.write(tmp_path / "taken", b"content")
        files.write(tmp_path / "other", b"content")
    assert [path for path in tree(tmp_path) if path != "other"] == []


def test_what_cannot_have_its_name_is_called_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.files.small_files._is_safe_to_sync_whole", lambda folder: True)
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError) as caught, SmallFiles() as files:
        files.write(tmp_path / "taken", b"content")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "taken"), None)


def test_an_interrupt_while_it_waits_for_the_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.files.small_files._is_safe_to_sync_whole", lambda folder: True)
    monkeypatch.setattr("bundler.files.small_files._BATCH_FILES", 10)
    waited = Future.exception
    interrupts = [KeyboardInterrupt()]

    def wait(future: Future[None]) -> BaseException | None:
        if interrupts:
            raise interrupts.pop()
        return waited(future)

    monkeypatch.setattr(Future, "exception", wait)
    with pytest.raises(KeyboardInterrupt), SmallFiles() as files:
        for number in range(25):
            files.write(tmp_path / str(number), b"content")
    assert tree(tmp_path)
    assert [name for name in tree(tmp_path) if name.startswith(TEMPORARY_PREFIX)] == []


def test_many_folders_take_one_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.files.small_files._is_safe_to_sync_whole", lambda folder: True)
    before, most = len(list(Path("/proc/self/fd").iterdir())), 0
    with SmallFiles() as files:
        for number in range(100):
            files.write(tmp_path / f"{number}/file", b"content")
            most = max(most, len(list(Path("/proc/self/fd").iterdir())))
    # Not one for each folder; other threads of this process may have some of their own.
    assert most <= before + 10
    assert len(tree(tmp_path)) == 100


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
