"""A manifest that is there is added to, and what can be refused is refused before the program runs."""

from __future__ import annotations

from pathlib import Path

from bundler.plan.lockfile import lock_path, read_lock
from bundler.plan.manifest import Manifest
from tests.draft.record.conftest import Record, program
from tests.draft.record.test_files import DOWNLOAD
from tests.support.hub import RunningHub
from tests.support.process import run, script

PYTHON = script("python")
HAND_WRITTEN = """\
# ours, for the cluster
version: 1
name: ours    # the file is ours.tar.zst

models:
  # one quantisation is enough
  - repo_id: org/plain
    allow_patterns: [b.gguf]  # the large one
datasets:
  - {repo_id: org/raw, allow_patterns: ["*.txt"]}
"""


def test_a_manifest_that_is_there_keeps_its_text_and_gets_what_is_missing(record: Record, tmp_path: Path) -> None:
    (tmp_path / "program.yaml").write_text(HAND_WRITTEN)
    code = program(tmp_path, DOWNLOAD)
    found = record(PYTHON, code, "org/plain:a.gguf", "words:config.json")
    assert found.path.read_text() == HAND_WRITTEN.replace("[b.gguf]", "[b.gguf, a.gguf]") + (
        "\ntokenizers:\n  - repo_id: org/words\n    aliases: [words]\n"
    )
    assert {repo["repo_id"]: repo["status"] for repo in found.report["repos"]} == {
        "org/plain": "widened",
        "org/words": "added",
    }
    again = record(PYTHON, code, "org/plain:a.gguf", "words:config.json")
    assert again.path.read_text() == found.path.read_text()
    assert {repo["status"] for repo in again.report["repos"]} == {"unchanged"}


def test_the_lock_has_the_commits_that_were_used(record: Record, hub: RunningHub, tmp_path: Path) -> None:
    code = """
from huggingface_hub import HfApi, hf_hub_download
hf_hub_download("org/plain", "a.gguf", revision=HfApi().model_info("org/plain", revision="dev").sha)
"""
    path = program(tmp_path, code)
    found = record(PYTHON, path, "a b", options=("--prove",))
    assert found.manifest.prove == (f"{PYTHON} {path} 'a b'",)
    lock = read_lock(lock_path(found.path))
    assert lock is not None
    assert (lock.manifest_sha256, [repo.commit for repo in lock.repos]) == (
        Manifest.load(found.path).digest(),
        [found.report["repos"][0]["commit"]],
    )
    checked = run([script("bundle"), "lock", "--check", found.path], check=False)
    assert checked.returncode == 0


def test_what_can_be_refused_is_refused_before_the_program_runs(record: Record, tmp_path: Path) -> None:
    touch = ["touch", str(tmp_path / "ran")]
    (tmp_path / "program.yaml").write_text("version: 1\nname: ours\nmodels: {}\n")
    assert record(*touch, check=False).done.returncode == 3
    (tmp_path / "program.yaml").write_text(HAND_WRITTEN)
    assert record(*touch, check=False, options=("--name", "other")).done.returncode == 2
    (tmp_path / "program.lock").write_text("{")
    assert record(*touch, check=False).done.returncode == 3
    (tmp_path / "program.lock").unlink()
    assert record("no-such-command", check=False).done.returncode == 127
    assert record(*touch, check=False, BUNDLE_OFFLINE="1").done.returncode == 2
    assert record(*touch, check=False, HF_ENDPOINT="no address").done.returncode == 4
    assert record(*touch, check=False, HF_HUB_OFFLINE="1").done.returncode == 4
    assert not (tmp_path / "ran").exists()


def test_an_unreachable_hub_leaves_no_half_of_a_manifest(record: Record, tmp_path: Path) -> None:
    # The program reads the cache; afterwards nobody can say which files the repo has.
    record(PYTHON, program(tmp_path, DOWNLOAD), "org/words:config.json").path.unlink()
    lock_path(tmp_path / "program.yaml").unlink()
    found = record(
        PYTHON, program(tmp_path, DOWNLOAD), "org/words:config.json", check=False, HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert found.done.returncode == 4
    assert not found.path.exists()
    assert not lock_path(found.path).exists()
