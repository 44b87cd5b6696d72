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
    half = tmp_path / "run" / "checkpoint-300"
    half.mkdir()
    (half / "model.safetensors").write_bytes(WEIGHTS[:100])
    (tmp_path / "run" / "metrics.jsonl").touch()
    repos, notes = read(tmp_path / "run", tmp_path / "store")
    assert [(repo.revision, repo.refs) for repo in repos] == [
        ("checkpoint-5", ()),
        ("checkpoint-20", ()),
        ("checkpoint-100", ("main",)),
    ]
    assert {repo.repo_id for repo in repos} == {"org/run"}
    assert [note for note in notes if str(half) in note and "main is checkpoint-100" in note]
    assert [note for note in notes if note.endswith("beside the checkpoints: metrics.jsonl")]


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


@pytest.mark.parametrize("name", ["README.md", "extra.json", "model.safetensors", "provenance.json"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_out_of_the_folder_is_refused_with_where_it_leads(tmp_path: Path, name: str, there: bool) -> None:
    folder = write_model(tmp_path / "run" / "checkpoint-1")
    secret = tmp_path / "secret.json"
    if there:
        secret.write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../../secret.json")
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "run", tmp_path / "store")
    assert f"{folder / name} -> {secret}" in caught.value.message
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_a_checkpoint_that_is_a_link_out_of_the_run_is_refused(tmp_path: Path) -> None:
    elsewhere = write_model(tmp_path / "other" / "checkpoint-7")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint-7").symlink_to(elsewhere)
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "run", tmp_path / "store")
    assert str(elsewhere) in caught.value.message


def test_links_inside_of_the_folder_are_followed_and_what_is_not_taken_may_lead_anywhere(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "run" / "checkpoint-1")
    (tmp_path / "run" / "train.yaml").write_text("a: 1")
    (folder / "train.yaml").symlink_to("../train.yaml")
    (folder / "optimizer.pt").symlink_to("/dev/null")
    (folder / "loop").symlink_to(tmp_path / "run")
    (repo,), notes = read(tmp_path / "run", tmp_path / "store")
    assert [file.path for file in repo.files] == ["config.json", "model.safetensors", "train.yaml"]
    assert any("loop, optimizer.pt" in note for note in notes)


def test_names_of_secrets_are_left_out_and_named(tmp_path: Path) -> None:
    names = ["token", "credentials.json", "Credentials.JSON.txt", "prod.env", "id_rsa", ".env", "secrets.yaml"]
    folder = write_model(tmp_path / "m", **dict.fromkeys(names, b"{}"), **{"tokens.json": b"{}"})
    (folder / "credentials").mkdir()
    (folder / "credentials" / "x.json").write_text("{}")
    (folder / "extra.json").symlink_to("secrets.yaml")
    (repo,), notes = read(folder, tmp_path / "store")
    assert [file.path for file in repo.files] == ["config.json", "model.safetensors", "tokens.json"]
    [note] = notes
    assert note.endswith(": " + ", ".join(sorted([*names, "credentials/", "extra.json"])))


@pytest.mark.parametrize("name", ["provenance.json", "README.md", "config.json"])
def test_a_file_that_holds_a_token_is_refused_by_its_line_and_the_token_is_not_repeated(
    tmp_path: Path, name: str
) -> None:
    token = "hf_" + "aB3" * 11 + "x"
    folder = write_model(tmp_path / "m", **{name: f'{{\n"HF_TOKEN": "{token}"}}'.encode()})
    with pytest.raises(UsageError) as caught:
        read(folder, tmp_path / "store")
    assert f"{folder / name}, line 2" in caught.value.message and token not in str(caught.value)


def test_words_that_begin_like_a_token_are_none(tmp_path: Path) -> None:
    text = b'{"hf_device_map": "hf_internal_testing_of_many_models", "half_abcdefghijklmnopqrstuvwxyz": "hf_abc"}'
    (repo,), _ = read(write_model(tmp_path / "m", **{"provenance.json": text}), tmp_path / "store")
    assert "provenance.json" in [file.path for file in repo.files]


def test_all_that_is_left_out_is_named_and_a_folder_of_such_once(tmp_path: Path) -> None:
    names = [f"rng_state_{rank}.pth" for rank in range(8)]
    folder = write_model(tmp_path / "m", **dict.fromkeys(names, b"x"), **{".cache": b""})
    write_model(folder / "checkpoint-1" / "deep")
    write_model(folder / "part")
    (folder / "part" / "x.py").touch()
    _, [note] = read(folder, tmp_path / "store")
    assert note == f"{folder}: left out {', '.join(['.cache', 'checkpoint-1/', 'part/x.py', *names])}"


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
    assert str(folder) in caught.value.message and "allow_p" not in caught.value.message
    assert ("--allow-pickle" in caught.value.message) == (what == "pickles alone")


def test_a_checkpoint_of_optimizer_states_alone_is_not_told_to_take_pickles(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "run", **{"optimizer.pt": b"pickle"})
    (folder / "model.safetensors").unlink()
    with pytest.raises(BundleError) as caught:
        read(folder, tmp_path / "store")
    assert "config.json, optimizer.pt" in caught.value.message and "--allow-pickle" not in caught.value.message


def test_pickles_are_taken_where_that_is_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (repo,), _ = read(folder, tmp_path / "store", allow_pickle=True)
    assert repo.allow_pickle and [file.path for file in repo.files] == ["config.json", "pytorch_model.bin"]
