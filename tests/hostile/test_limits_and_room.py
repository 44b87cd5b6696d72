"""Where others give up: content that shrinks a hundredfold, and no second copy's room for unpacking."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from bundler.home.installation.install import install
from tests.support.bundles import locked_repo, tiny_bundle


def test_content_that_shrinks_more_than_a_thousandfold_is_installed(tmp_path: Path) -> None:
    zeros = bytes(40 << 20)
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", {"zeros.bin": zeros}, lfs=["zeros.bin"]), contents=[zeros])
    assert bundle.stat().st_size * 1000 < len(zeros)
    installed = install(bundle, tmp_path / "hf").bundle
    assert installed.verify().ok
    assert (installed.snapshot_path("org/m") / "zeros.bin").read_bytes() == zeros


def test_content_takes_its_room_once_while_it_is_installed_and_none_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [os.urandom(2 << 20) for _ in range(3)]
    files = {f"w{number}.bin": content for number, content in enumerate(contents)}
    bundle = tiny_bundle(tmp_path, locked_repo("org/m", files, lfs=files), contents=contents)
    home = tmp_path / "hf"
    seen = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))

    def look(count: int) -> None:
        there = {s.st_ino: s.st_blocks * 512 for path in home.rglob("*") for s in [path.lstat()]}
        seen.append(sum(there.values()))

    install(bundle, home, progress=look)
    assert 0 < max(seen) < sum(map(len, contents)) + (1 << 20)
