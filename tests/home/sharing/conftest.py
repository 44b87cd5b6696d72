"""A bundle and a folder that every user can reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.users import make_open_folder

FILES = {"config.json": b"{}", "w.safetensors": bytes(range(256)) * 40}


@pytest.fixture
def place() -> Iterator[Path]:
    yield from make_open_folder()


@pytest.fixture
def packed(place: Path) -> Path:
    model = locked_repo("org/m", FILES, aliases=["m"], lfs=["w.safetensors"], absent=["tokenizer.json"])
    return tiny_bundle(place, model, contents=FILES.values())
