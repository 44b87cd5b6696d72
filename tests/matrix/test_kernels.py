"""Kernels: the stock kernels library loads them by name, offline, from what a bundle carries of a repo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundler.plan.lock import Lock
from tests.support.hub import RunningHub
from tests.support.process import run, script
from tests.support.remote import write_repo

pytest.importorskip("kernels")
pytestmark = pytest.mark.slow

CODE = b"import torch\n\n\ndef twice(x: torch.Tensor) -> torch.Tensor:\n    return 2 * x\n"
NEEDING = b"from kernels import get_kernel_dep\n\ntwice = get_kernel_dep('org/twice').twice\n"
HUB = """\
branches:
  kernels/org/twice: {v1: _branches/twice-v1}
  kernels/org/needing: {v2: _branches/needing-v2}
"""
MANIFEST = """\
version: 1
name: with-kernels
kernels:
  - repo_id: org/twice
    revision: v1
    torch: ["2.13"]
    backends: [cpu]
    platforms: [x86_64-linux, aarch64-linux]
  - repo_id: org/needing
    revision: v2
"""
PROGRAM = """
import torch
from kernels import get_kernel, has_kernel

assert has_kernel("org/twice", version=1)
assert get_kernel("org/twice", version=1).twice(torch.ones(2)).tolist() == [2.0, 2.0]
assert get_kernel("org/twice", revision="v1").twice(torch.ones(1)).tolist() == [2.0]
assert get_kernel("org/needing", version=2).twice(torch.ones(1)).tolist() == [2.0]
"""


def describe(name: str, **more: object) -> bytes:
    """`metadata.json` of a build, as the library reads it."""
    plain = {"id": f"{name}-cpu", "name": name, "version": 1, "license": "MIT", "python-depends": []}
    return json.dumps({**plain, "backend": {"type": "cpu"}, **more}).encode()


def build(name: str, code: bytes, **more: object) -> dict[str, bytes]:
    """One build that runs anywhere, and some that must not be carried."""
    return {
        "README.md": b"---\nlicense: mit\n---\n",
        "build/torch-universal/__init__.py": code,
        "build/torch-universal/metadata.json": describe(name, **more),
        "build/torch-universal/__pycache__/x.pyc": b"\0",
        "build/torch213-cu128-x86_64-linux/__init__.py": b"raise SystemExit\n",
        "build/torch213-cu128-x86_64-linux/metadata.json": describe(name, **more),
    }


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    needed = {"kernel-depends": [{"repo-id": "org/twice", "version": 1}]}
    for repo, files in (("twice", build("twice", CODE)), ("needing", build("needing", NEEDING, **needed))):
        write_repo(folder / "kernels/org" / repo, {"README.md": b"on main there is no build\n"})
        write_repo(folder / f"_branches/{repo}-{'v1' if repo == 'twice' else 'v2'}", files)
    (folder / "hub.yaml").write_text(HUB)
    return folder


def fetch(hub: RunningHub, folder: Path, manifest: str, *, check: bool = True) -> str:
    """Fetch a manifest and return what was said."""
    (folder / "m.yaml").write_text(manifest)
    env = {**hub.environment(folder / "online"), "BUNDLE_CACHE": str(folder / "cache"), "HOME": str(folder)}
    done = run([script("bundle"), "fetch", "m.yaml"], env=env, cwd=folder, check=check)
    return done.stderr


def test_kernels_load_offline_by_the_library_itself(hub_folder: Path, tmp_path: Path) -> None:
    with RunningHub(hub_folder) as hub:
        said = fetch(hub, tmp_path, MANIFEST)
    assert "loads as org/twice" in said and "loads as org/needing" in said
    twice, needing = Lock.loads((tmp_path / "m.lock").read_text()).repos
    assert [file.path for file in twice.files] == [
        "README.md",
        "build/torch-universal/__init__.py",
        "build/torch-universal/metadata.json",
    ]
    assert twice.trust_remote_code and twice.card is not None and twice.card.licenses == ("mit",)
    assert len(needing.files) == 5, "nothing was narrowed down"
    home = tmp_path / "hf"
    run([script("bundle"), "install", tmp_path / "with-kernels.tar.zst", "--hf-home", home])
    (tmp_path / "program.py").write_text(PROGRAM)
    argv = [script("bundle"), "run", "--hf-home", home, "--strict", "--"]
    done = run([*argv, script("python"), tmp_path / "program.py"], env={"HOME": str(tmp_path)})
    assert "attempts   0" in done.stderr


@pytest.mark.parametrize(
    ("call", "said", "hint"),
    [
        ('get_kernel("org/none", version=3)', "kernel org/none is not in", "{repo_id: org/none, revision: v3}"),
        ('get_kernel("org/twice", version=7)', "kernel org/twice at v7 is not in", "have `revision: v7`"),
    ],
)
def test_a_kernel_that_is_not_there_is_named_with_the_line_to_add(
    hub_folder: Path, tmp_path: Path, call: str, said: str, hint: str
) -> None:
    with RunningHub(hub_folder) as hub:
        fetch(hub, tmp_path, MANIFEST)
    home = tmp_path / "hf"
    run([script("bundle"), "install", tmp_path / "with-kernels.tar.zst", "--hf-home", home])
    argv = [script("bundle"), "run", "--hf-home", home, "--", script("python"), "-c"]
    done = run([*argv, f"from kernels import get_kernel\n{call}"], env={"HOME": str(tmp_path)}, check=False)
    assert done.returncode == 1
    assert f"offline: {said}" in done.stderr and hint in done.stderr


def test_a_needed_kernel_that_nothing_brings_is_named_and_fails_the_proof(
    hub_folder: Path, tmp_path: Path
) -> None:
    with RunningHub(hub_folder) as hub:
        lines = MANIFEST.splitlines()
        alone = "\n".join([*lines[:3], *lines[-2:]])
        said = fetch(hub, tmp_path, alone, check=False)
    assert "add to kernels: - {repo_id: org/twice, revision: v1}" in said
    assert "kernels[0] (org/needing) does not load offline" in said
    assert not (tmp_path / "with-kernels.tar.zst").exists()


def test_a_branch_without_builds_and_a_machine_without_one_are_refused(hub_folder: Path, tmp_path: Path) -> None:
    with RunningHub(hub_folder) as hub:
        on_main = fetch(hub, tmp_path, MANIFEST.replace("revision: v1", "revision: main"), check=False)
        metal = MANIFEST.replace("torch-universal", "").replace("[cpu]", "[metal]")
        (hub_folder / "_branches/twice-v1/build/torch-universal").rename(hub_folder / "gone")
        unserved = fetch(hub, tmp_path, metal, check=False)
    assert "versions of a kernel are branches: revision: v1" in on_main
    assert "no build for torch: 2.13; backends: metal" in unserved
    assert "there is torch213-cu128-x86_64-linux" in unserved
