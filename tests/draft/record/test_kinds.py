"""Metrics and kernels are recorded by the stock libraries' own calls, and load offline from what was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bundler.plan.manifest import Manifest
from tests.matrix import test_kernels, test_metrics
from tests.support.hub import RunningHub
from tests.support.process import run, script

pytestmark = pytest.mark.slow
# Of the library's own kernels a program need not say that it trusts their publisher; this Hub knows no publishers.
KERNELS = """
import torch
from kernels import get_kernel

assert get_kernel("org/twice", version=1, trust_remote_code=True).twice(torch.ones(2)).tolist() == [2.0, 2.0]
assert get_kernel("org/needing", version=2, trust_remote_code=True).twice(torch.ones(1)).tolist() == [2.0]
"""
metrics_folder, kernels_folder = test_metrics.hub_folder, test_kernels.hub_folder


@pytest.fixture
def repos(metrics_folder: Path, kernels_folder: Path) -> Path:
    """A Hub's folder with both."""
    assert metrics_folder == kernels_folder
    branches = [yaml.safe_load(text.HUB)["branches"] for text in (test_metrics, test_kernels)]
    (metrics_folder / "hub.yaml").write_text(yaml.safe_dump({"branches": branches[0] | branches[1]}))
    return metrics_folder


def test_metrics_are_recorded_as_spaces_and_kernels_by_their_version(repos: Path, tmp_path: Path) -> None:
    """One program, since its imports take most of the time, is recorded, fetched, and run in an empty home."""
    pytest.importorskip("evaluate")
    pytest.importorskip("kernels")
    program, manifest = tmp_path / "program.py", tmp_path / "m.yaml"
    program.write_text(test_metrics.PROGRAM + KERNELS)
    with RunningHub(repos) as hub:
        environment = {**hub.environment(tmp_path / "online"), "BUNDLE_CACHE": str(tmp_path / "cache")}
        run([script("bundle"), "record", "-o", manifest, "--", script("python"), program], env=environment)
        run([script("bundle"), "fetch", manifest, "-o", tmp_path / "m.tar.zst"], env=environment)
    run([script("bundle"), "install", tmp_path / "m.tar.zst", "--hf-home", tmp_path / "empty"])
    words = [script("bundle"), "run", "--hf-home", tmp_path / "empty", "--strict", "--", script("python"), program]
    assert "attempts   0" in run(words).stderr
    assert {(entry.kind, entry.repo_id, entry.revision) for entry in Manifest.load(manifest).entries} == {
        ("space", "evaluate-metric/accuracy", "main"),
        ("space", "org/wrong", "main"),
        ("kernel", "org/twice", "v1"),
        ("kernel", "org/needing", "v2"),
    }
