"""bundler.files.links: links are found out by making one, and put in place in one step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundler.files.links import hard_links_work, link_or_copy, replace_symlink, symlinks_work


def refuse(*arguments: object, **options: object) -> None:
    raise PermissionError


def test_looking_whether_links_work_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert symlinks_work(tmp_path / "new") and hard_links_work(tmp_path / "new")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    monkeypatch.setattr(os, "link", refuse)
    assert not symlinks_work(tmp_path / "new") and not hard_links_work(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_symlink_takes_the_place_of_a_file_and_of_another_link(tmp_path: Path) -> None:
    link = tmp_path / "folder" / "link"
    for target in ("first", "second", "second"):
        replace_symlink(link, target)
        assert link.readlink() == Path(target)
    link.unlink()
    link.write_text("a file")
    replace_symlink(link, "third")
    assert link.readlink() == Path("third")
    assert list(link.parent.iterdir()) == [link]


def test_a_second_name_is_a_hard_link_and_made_again_without_a_trace(tmp_path: Path) -> None:
    source, name = tmp_path / "source", tmp_path / "folder" / "name"
    source.write_bytes(b"content")
    for _ in range(2):
        link_or_copy(source, name)
        assert name.samefile(source)
    assert list(name.parent.iterdir()) == [name]


def test_without_hard_links_a_second_name_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, name = tmp_path / "source", tmp_path / "name"
    source.write_bytes(b"content")
    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(source, name)
    assert name.read_bytes() == b"content" and not name.samefile(source)


def test_a_symlink_that_cannot_take_its_place_leaves_no_temporary_name(tmp_path: Path) -> None:
    (tmp_path / "name/full").mkdir(parents=True)
    with pytest.raises(OSError):
        replace_symlink(tmp_path / "name", "target")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]
