"""What the tests of commands borrow from those of the libraries, and a Hub whose content is quickly proven."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.conftest import shared_repos
from tests.support.hub import RunningHub
from tests.support.remote import write_repo

__all__ = ["shared_repos"]

# A space that is no metric: its proof opens the snapshot, and imports no library, which takes most of other proofs.
PLAIN = "version: 1\nname: small\nspaces:\n  - repo_id: org/small\n"


@pytest.fixture
def plain_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables for commands that fetch `PLAIN`, which stands in small.yaml of `tmp_path`."""
    (tmp_path / "small.yaml").write_text(PLAIN)
    files = {"README.md": b"ready\n" * 50_000, "noise.dat": os.urandom(1_000_000)}
    write_repo(tmp_path / "hub" / "spaces" / "org" / "small", files)
    with RunningHub(tmp_path / "hub") as hub:
        yield {**os.environ, **hub.environment(tmp_path / "hf"), "BUNDLE_CACHE": str(tmp_path / "cache")}
