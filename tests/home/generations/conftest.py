"""Two versions of one bundle, and a home in which the second has replaced the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.home.installation.install import install
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle

OLD_FILES = {"config.json": b"{}", "w": b"old weights"}
NEW_FILES = {"config.json": b"{}", "w": b"new and longer weights"}
REF = "hub/models--org--m/refs/main"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    repo = locked_repo("org/m", OLD_FILES, commit=COMMIT, aliases=["m"])
    return tiny_bundle(tmp_path / "old", repo, contents=OLD_FILES.values(), name="demo")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    repo = locked_repo("org/m", NEW_FILES, commit=OTHER_COMMIT, aliases=["m"])
    return tiny_bundle(tmp_path / "new", repo, contents=NEW_FILES.values(), name="demo")


@pytest.fixture
def home(old: Path, new: Path, tmp_path: Path) -> Path:
    install(old, tmp_path / "home")
    install(new, tmp_path / "home")
    return tmp_path / "home"
