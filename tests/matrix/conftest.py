"""One fetch of the matrix's manifest from a Hub of its repos; parallel workers share it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.hub import RunningHub
from tests.support.process import run, script

MANIFEST = Path(__file__).with_name("manifest.yaml")


@pytest.fixture(scope="session")
def matrix_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, to be read only; what `bundle fetch` said about it stands beside it as `fetch.log`."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "matrix"
    with FileLock(f"{folder}.lock"):
        if not (folder / "matrix.tar.zst").exists():
            folder.mkdir()
            shutil.copy(MANIFEST, folder / "matrix.yaml")
            own = {"HOME": str(folder), "HF_HUB_OFFLINE": "1"}
            run([sys.executable, "-m", "tests.matrix.repos", folder / "repos"], env=own)
            with RunningHub(folder / "repos") as hub:
                environment = {**hub.environment(folder / "hf"), "BUNDLE_CACHE": str(folder / "cache")}
                done = run([script("bundle"), "fetch", "matrix.yaml"], env=environment, cwd=folder)
            (folder / "fetch.log").write_text(done.stderr)
    return folder / "matrix.tar.zst"
