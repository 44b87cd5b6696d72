"""`bundle fetch` as its users run it: real processes, the demo's Hub, exit codes, and what is left on disk."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bundler.plan.lock import Lock
from tests.conftest import PLAIN
from tests.support.hub import RunningHub
from tests.support.process import Child, run, script
from tests.support.remote import write_repo

DEMO = Path(__file__).parents[2] / "manifests" / "demo.yaml"
SMALL = """
version: 1
name: small
tokenizers:
  - repo_id: org/small
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest in a folder of its own, where its lock may be written."""
    path = tmp_path / "manifests" / "small.yaml"
    path.parent.mkdir()
    path.write_text(SMALL)
    return path


def bundle(
    hub: RunningHub | None, tmp_path: Path, *arguments: str | Path, check: bool = True
) -> subprocess.CompletedProcess[str]:
    env = {"BUNDLE_CACHE": str(tmp_path / "cache")}
    if hub is not None:
        env |= hub.environment(tmp_path / "hf")
    return run([script("bundle"), *arguments], env=env, cwd=tmp_path, check=check)


def test_a_dry_run_shows_files_and_bytes_and_writes_nothing(demo_hub: RunningHub, tmp_path: Path) -> None:
    manifest = tmp_path / "demo.yaml"
    shutil.copy(DEMO, manifest)
    shown = bundle(demo_hub, tmp_path, "fetch", manifest, "--dry-run")
    assert (
        "model openai-community/gpt2" not in shown.stdout
        and "tokenizer openai-community/gpt2 main" in shown.stdout
    )
    assert "model.safetensors" in shown.stdout and "to download: " in shown.stdout
    data = json.loads(bundle(demo_hub, tmp_path, "fetch", manifest, "--dry-run", "--json").stdout)
    assert data["download_bytes"] == sum(repo["size_bytes"] for repo in data["repos"]) > 10_000_000
    assert not manifest.with_suffix(".lock").exists()
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))
    assert [r for r in demo_hub.asked("GET") if r.path.endswith("model.safetensors")] == []


def test_locked_without_a_lock_or_with_another_is_refused(tmp_path: Path, manifest: Path) -> None:
    missing = bundle(None, tmp_path, "fetch", manifest, "--locked", check=False)
    assert missing.returncode == 3 and "there is no lock yet" in missing.stderr
    other = Lock(name="other", manifest_sha256="0" * 64, repos=())
    manifest.with_suffix(".lock").write_text(other.dumps())
    stale = bundle(None, tmp_path, "fetch", manifest, "--locked", check=False)
    assert stale.returncode == 3 and "org/small" in stale.stderr
    assert manifest.with_suffix(".lock").read_text() == other.dumps()


def test_what_does_not_load_is_not_packed_and_the_lock_stays_incomplete(tmp_path: Path, manifest: Path) -> None:
    files = {
        "config.json": b'{"model_type": "gpt2"}',
        "tokenizer_config.json": b'{"tokenizer_class": "GPT2Tokenizer"}',
    }
    write_repo(tmp_path / "hub" / "org" / "small", files)
    with RunningHub(tmp_path / "hub") as hub:
        failed = bundle(hub, tmp_path, "fetch", manifest, check=False)
    assert failed.returncode == 8, failed.stderr
    assert "tokenizers[0] (org/small) does not load offline" in failed.stderr
    assert list(tmp_path.glob("*.tar.zst")) == []
    assert not Lock.loads(manifest.with_suffix(".lock").read_text()).is_complete


def test_ctrl_c_ends_with_130_and_the_next_run_goes_on(tmp_path: Path, manifest: Path) -> None:
    # A space: that it goes on is seen before anything is proven.
    manifest.write_text(PLAIN)
    files = {"vocab.txt": b"word\n" * 600_000, "README.md": b"ready\n"}
    write_repo(tmp_path / "hub" / "spaces" / "org" / "small", files)
    with RunningHub(tmp_path / "hub") as hub:
        hub.fault("hang", "vocab.txt", after_bytes=2_500_000)
        process = Child(
            [script("bundle"), "fetch", manifest],
            env={
                **hub.environment(tmp_path / "hf"),
                "BUNDLE_CACHE": str(tmp_path / "cache"),
                "HOME": str(tmp_path),
            },
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        with process:
            deadline = time.monotonic() + 60
            # Wait for all that comes before the server hangs: what is there at the first byte, nobody knows.
            while time.monotonic() < deadline and _partial_bytes(tmp_path) < 2_500_000:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130 and "run the same command again" in stderr
        assert _partial_bytes(tmp_path) == 2_500_000
        bundle(hub, tmp_path, "fetch", manifest)
        assert hub.asked("GET", "vocab.txt")[-1].headers["range"] == "bytes=2500000-"


def _partial_bytes(tmp_path: Path) -> int:
    # The larger one is the file that hangs; the other may or may not have been under way.
    return max((path.stat().st_size for path in (tmp_path / "cache").glob("partial/*")), default=0)


def test_locked_and_upgrade_contradict_each_other(tmp_path: Path, manifest: Path) -> None:
    refused = bundle(None, tmp_path, "fetch", manifest, "--locked", "--upgrade", check=False)
    assert refused.returncode == 2 and "choose one" in refused.stderr


def test_a_hub_that_is_not_there_ends_with_4(tmp_path: Path, manifest: Path) -> None:
    done = run(
        [script("bundle"), "fetch", manifest],
        env={"HF_ENDPOINT": "http://127.0.0.1:9", "BUNDLE_CACHE": str(tmp_path / "cache")},
        check=False,
    )
    assert done.returncode == 4, done.stderr
