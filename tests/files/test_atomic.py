"""bundler.files.atomic: a file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.files.atomic import TEMPORARY_PREFIX, atomic_write, atomic_writer, temporary_path
from bundler.files.owner import Owner


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


def test_temporary_names_stand_beside_their_target(tmp_path: Path) -> None:
    first, second = temporary_path(tmp_path), temporary_path(tmp_path)
    assert first != second
    assert first.parent == tmp_path
    assert Owner.parse(first.name.removeprefix(TEMPORARY_PREFIX)) == Owner.current()
