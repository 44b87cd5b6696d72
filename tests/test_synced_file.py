"""Writing that keeps the disk busy: no byte is lost, and no failure of the disk either."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bundler import synced_file
from bundler.paths import atomic_writer


def test_every_byte_arrives_and_syncs_begin_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synced_file, "STEP_BYTES", 100_000)
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(descriptor) or real(descriptor))
    parts = [os.urandom(70_000) for _ in range(40)]
    with atomic_writer(tmp_path / "x") as stream:
        for part in parts:
            stream.write(part)
        assert synced
    assert (tmp_path / "x").read_bytes() == b"".join(parts)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("more", [0, 5])
def test_what_the_disk_refuses_meanwhile_is_not_taken_for_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(synced_file, "STEP_BYTES", 100_000)
    (tmp_path / "x").write_bytes(b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), atomic_writer(tmp_path / "x") as stream:
        for _ in range(1 + more):
            stream.write(bytes(200_000))
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
