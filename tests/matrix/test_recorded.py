"""The matrix without a hand-written line: its program is recorded, fetched, and run in an empty home with no try."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bundler.plan.manifest import Manifest
from tests.matrix.conftest import MANIFEST
from tests.support.hub import RunningHub
from tests.support.process import run, script

PROGRAM = [sys.executable, "-m", "tests.matrix.loads"]


@pytest.mark.slow
def test_what_is_recorded_loads_everything_offline(tmp_path: Path) -> None:
    repos = tmp_path / "repos"
    run([sys.executable, "-m", "tests.matrix.repos", repos], env={"HF_HUB_OFFLINE": "1"})
    # A name that only a manifest gives would not load online.
    renames = (repos / "hub.yaml").read_text().replace("old-tiny: org/tiny", "old-tiny: org/tiny, tiny: org/tiny")
    (repos / "hub.yaml").write_text(renames)
    manifest = tmp_path / "matrix.yaml"
    with RunningHub(repos) as hub:
        environment = {**hub.environment(tmp_path / "hf"), "BUNDLE_CACHE": str(tmp_path / "cache")}
        recorded = run([script("bundle"), "record", "-o", manifest, "--", *PROGRAM], env=environment)
        run([script("bundle"), "fetch", manifest, "-o", tmp_path / "matrix.tar.zst"], env=environment)
    assert not any(json.loads(recorded.stdout).values())

    # It is what a person wrote, but for names: where that says nothing, the configuration that is the default.
    by_hand, found = Manifest.load(MANIFEST), Manifest.load(manifest)
    names = {"old-tiny": "org/tiny"}
    assert {(e.kind, names.get(e.repo_id, e.repo_id), e.revision) for e in by_hand.entries} == {
        (e.kind, e.repo_id, e.revision) for e in found.entries
    }
    permissions = [
        {(names.get(e.repo_id, e.repo_id), e.trust_remote_code, e.allow_pickle, e.data_files) for e in m.entries}
        for m in (by_hand, found)
    ]
    assert permissions[0] == permissions[1]

    home = tmp_path / "empty"
    run([script("bundle"), "install", tmp_path / "matrix.tar.zst", "--hf-home", home])
    offline = run([script("bundle"), "run", "--hf-home", home, "--strict", "--", *PROGRAM])
    assert not any(json.loads(offline.stdout).values())
    assert "attempts   0" in offline.stderr
