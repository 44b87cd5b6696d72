"""Folders of trained models as repos: which files, which revisions, and under names that the Hub would give."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from bundler.errors import BundleError, UsageError
from bundler.make.store import Store
from bundler.make.trained.read import read_trained
from bundler.plan.lock import LockedRepo
from tests.support.fine_tunes import make_weights, safetensors_bytes

WEIGHTS = safetensors_bytes({"w": make_weights(1, 1000)})


def write_model(folder: Path, weights: bytes = WEIGHTS, **others: bytes) -> Path:
    folder.mkdir(parents=True)
    files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": weights, **others}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def read(folder: Path, store: Path, *, allow_pickle: bool = False) -> tuple[tuple[LockedRepo, ...], list[str]]:
    notes: list[str] = []
    repos = read_trained(folder, "org/run", Store(store), allow_pickle=allow_pickle, on_note=notes.append)
    return repos, notes


def test_a_model_is_the_main_branch_with_all_its_digests_and_in_the_store(tmp_path: Path) -> None:
    card = b"---\nlicense: mit\nbase_model: org/base\n---\n"
    others = {"trainer_state.json": b"{}", "optimizer.pt": b"pickle", "modeling.py": b"1", "README.md": card}
    (repo,), notes = read(write_model(tmp_path / "m", **others), tmp_path / "store")
    assert [file.path for file in repo.files] == [
        "README.md",
        "config.json",
        "model.safetensors",
        "trainer_state.json",
    ]
    assert (repo.revision, repo.refs, repo.card and repo.card.base_models) == ("main", (), ("org/base",))
    weights = repo.files[2]
    assert weights.etag == weights.lfs_sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert Store(tmp_path / "store").path(weights.etag).read_bytes() == WEIGHTS
    assert repo.files[1].etag == hashlib.sha1(b'blob 23\0{"model_type": "llama"}').hexdigest()
    assert len(notes) == 1 and "optimizer.pt" in notes[0] and "modeling.py" in notes[0]


def test_each_checkpoint_is_a_revision_in_the_order_of_steps_and_the_last_is_main(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        write_model(tmp_path / "run" / f"checkpoint-{step}", trainer_state=json.dumps(step).encode())
    (tmp_path / "run" / "checkpoint-300").mkdir()
    repos, _ = read(tmp_path / "run", tmp_path / "store")
    assert [(repo.revision, repo.refs) for repo in repos] == [
        ("checkpoint-5", ()),
        ("checkpoint-20", ()),
        ("checkpoint-100", ("main",)),
    ]
    assert {repo.repo_id for repo in repos} == {"org/run"}


def test_equal_files_have_equal_commits_wherever_they_lie(tmp_path: Path) -> None:
    commits = {
        read(write_model(tmp_path / name / "m"), tmp_path / f"store-{name}")[0][0].commit for name in ("a", "b")
    }
    other = read(write_model(tmp_path / "c" / "m", WEIGHTS + b"x"), tmp_path / "store-c")[0][0].commit
    assert len(commits) == 1 and other not in commits


def test_an_adapter_leaves_its_base_model_to_another_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    (repo,), _ = read(folder, tmp_path / "store")
    assert repo.base_elsewhere


@pytest.mark.parametrize("what", ["nothing", "checkpoints without a model", "pickles alone"])
def test_a_folder_without_a_model_is_refused(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    if what == "checkpoints without a model":
        (folder / "checkpoint-1").mkdir()
    if what == "pickles alone":
        (folder / "config.json").write_text("{}")
        (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(BundleError if what == "pickles alone" else UsageError) as caught:
        read(folder, tmp_path / "store")
    assert caught.value.exit_code == (3 if what == "pickles alone" else 2)


def test_pickles_are_taken_where_that_is_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (repo,), _ = read(folder, tmp_path / "store", allow_pickle=True)
    assert repo.allow_pickle and [file.path for file in repo.files] == ["config.json", "pytorch_model.bin"]
