"""Metrics and kernels are recorded by the stock libraries' own calls, and load offline from what was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def record_and_run(repos: Path, folder: Path, code: str) -> Manifest:
    """Record a program, fetch what it says, and run it in an empty home; return the manifest."""
    program, manifest = folder / "program.py", folder / "m.yaml"
    program.write_text(code)
    with RunningHub(repos) as hub:
        environment = {**hub.environment(folder / "online"), "BUNDLE_CACHE": str(folder / "cache")}
        run([script("bundle"), "record", "-o", manifest, "--", script("python"), program], env=environment)
        run([script("bundle"), "fetch", manifest, "-o", folder / "m.tar.zst"], env=environment)
    run([script("bundle"), "install", folder / "m.tar.zst", "--hf-home", folder / "empty"])
    words = [script("bundle"), "run", "--hf-home", folder / "empty", "--strict", "--", script("python"), program]
    assert "attempts   0" in run(words).stderr
    return Manifest.load(manifest)


def test_metrics_are_recorded_as_spaces(metrics_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("evaluate")
    found = record_and_run(metrics_folder, tmp_path, test_metrics.PROGRAM)
    assert {(entry.kind, entry.repo_id, entry.revision) for entry in found.entries} == {
        ("space", "evaluate-metric/accuracy", "main"),
        ("space", "org/wrong", "main"),
    }


def test_kernels_are_recorded_by_their_version(kernels_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("kernels")
    found = record_and_run(kernels_folder, tmp_path, KERNELS)
    assert {(entry.kind, entry.repo_id, entry.revision) for entry in found.entries} == {
        ("kernel", "org/twice", "v1"),
        ("kernel", "org/needing", "v2"),
    }
