"""A second name for a file's content costs nothing where it is safe, and is never a way to change the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.make.cache import clone
from bundler.make.cache.clone import clone_file


def test_content_is_shared_where_the_file_system_can(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content" * 1000)
    source.chmod(0o644)
    how = clone_file(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert how in ("reflink", "link")
    assert (target.stat().st_ino == source.stat().st_ino) == (how == "link")


def test_what_others_may_write_is_never_linked(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    source.chmod(0o664)
    assert clone_file(source, target) in ("reflink", "copy")
    assert target.stat().st_ino != source.stat().st_ino


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"content")
    (tmp_path / "name").symlink_to("blob")
    clone_file(tmp_path / "name", tmp_path / "target")
    assert not (tmp_path / "target").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"content"


def test_a_copy_is_made_where_nothing_else_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(clone.os, "link", refuse)
    monkeypatch.setattr(clone.fcntl, "ioctl", refuse)
    (tmp_path / "source").write_bytes(b"content")
    assert clone_file(tmp_path / "source", tmp_path / "target") == "copy"
    assert (tmp_path / "target").read_bytes() == b"content"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        clone_file(tmp_path / "absent", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "there").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        clone_file(tmp_path / "source", tmp_path / "there")
