"""Bundles of a server that sends a whole object or nothing: what reads one of them reads a copy of it."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bundler.cli import main
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.network.ranged import RangedServer
from tests.support.process import script

FILES = {"w": random.Random(1).randbytes(1 << 20)}


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    packed = tiny_bundle(tmp_path, locked_repo("org/m", FILES, lfs=["w"]), contents=FILES.values())
    with RangedServer({"/tiny.tar.zst": packed.read_bytes()}) as server:
        server.ignores_ranges = True
        yield f"{server.url}/tiny.tar.zst"
        assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("command", ["inspect", "digest", "verify"])
def test_it_is_read(command: str, address: str) -> None:
    done = CliRunner().invoke(main, [command, address], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("command", ["inspect", "digest", "verify"])
def test_where_there_is_no_room_for_the_copy_that_is_said(
    command: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_free = SimpleNamespace(total=1 << 20, used=1 << 20, free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: nothing_free)
    done = CliRunner().invoke(main, [command, address])
    assert done.exit_code == 10, done.output
    assert "TMPDIR" in done.stderr


def test_a_launch_installs_from_it(address: str, tmp_path: Path) -> None:
    words = [script("bundle"), "run", "--from", address, "--hf-home", str(tmp_path / "home"), "--", "true"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
