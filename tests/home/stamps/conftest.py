"""A bundle of a model, a home that others can reach, and a folder for the stamps of each user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.home.installation.install import install
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.users import make_open_folder

MODEL = b"weights" * 100
FILES = {"config.json": b"{}", "model.bin": MODEL}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach."""
    yield from make_open_folder()


@pytest.fixture
def shared_home(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that root has installed, and a folder in which every user can make one of his own for his stamps."""
    install(
        tiny_bundle(tmp_path / "built", locked_repo("org/model", FILES), contents=FILES.values()), place / "home"
    )
    state = place / "state"
    state.mkdir()
    state.chmod(0o1777)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    # What root's own cache holds is not for them to look at.
    monkeypatch.setenv("HF_HOME", str(place / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    return place / "home"
