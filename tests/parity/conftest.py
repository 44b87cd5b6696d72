"""Bundles whose parity is made."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from bundler.make.split import split_bundle
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.chunked import cut_small


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle of 1.2 MB."""
    folder = tmp_path_factory.mktemp("made")
    content = {f"w{number}": random.Random(number).randbytes(300_000) for number in range(4)}
    return tiny_bundle(folder, locked_repo("org/m", content), contents=content.values(), name="demo")


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path))


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A bundle of small chunks in a dozen volumes."""
    cut_small(monkeypatch)
    content = {f"w{number}": random.Random(number).randbytes(60_000) for number in range(4)}
    whole = tiny_bundle(tmp_path / "whole", locked_repo("org/m", content), contents=content.values(), name="demo")
    (tmp_path / "volumes").mkdir()
    return list(split_bundle(whole, 20_000, tmp_path / "volumes" / "demo.tar.zst").volumes)
