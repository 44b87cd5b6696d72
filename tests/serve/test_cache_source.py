"""An installed cache serves what it was downloaded from, under the same commits and ids."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from bundler.serve.source import (
    FileNotServedError,
    RepoKey,
    RepoNotServedError,
    RevisionNotServedError,
)
from bundler.serve.sources import open_source
from bundler.serve.sources.cache import CacheSource
from tests.serve.conftest import WEIGHTS
from tests.support.hub import RunningHub
from tests.support.process import run_python

MODEL = RepoKey("model", "org/model")


@pytest.fixture
def hf_home(hub: RunningHub, tmp_path: Path) -> Path:
    """A cache as the stock client fills it: a whole model, another branch of it, a whole dataset."""
    code = """\
    from huggingface_hub import hf_hub_download, snapshot_download
    snapshot_download("org/model")
    hf_hub_download("org/model", "config.json", revision="feature/dev")
    snapshot_download("org/corpus", repo_type="dataset")
    """
    home = tmp_path / "hf"
    run_python(code, env=hub.environment(home))
    (home / "token").write_text("hf_secret")
    return home


def answers(hub: RunningHub, commit: str) -> dict[str, Any]:
    """Ask about the model in all ways; leave out what a cache cannot know (there are no tags in it)."""
    files = [entry["path"] for entry in hub.ask("GET", f"/api/models/org/model/tree/{commit}?recursive=true").json
             if entry["type"] == "file"]  # fmt: skip
    found: dict[str, Any] = {}
    for path in (
        "/api/models/org/model?blobs=true",
        f"/api/models/org/model/tree/{commit}?recursive=true&expand=true",
        "/api/models/org/model/tree/main/onnx",
        "/api/models/org/model/revision/feature%2Fdev",
        "/api/datasets/org/corpus/tree/main",
        "/datasets/org/corpus/resolve/main/train.jsonl",
        "/org/model/resolve/main/none.json",
        *(f"/org/model/resolve/{commit}/{file}".replace("%", "%25").replace(" ", "%20") for file in files),
    ):
        answer = hub.ask("GET", path)
        found[path] = (answer.status, {k: v for k, v in answer.headers.items() if k != "date"}, answer.body)
    return found


def test_an_installed_cache_gives_the_same_answers_as_the_folder(hub: RunningHub, hf_home: Path) -> None:
    commit = hub.ask("GET", "/api/models/org/model").json["sha"]
    with RunningHub(hf_home) as mirror:
        assert answers(mirror, commit) == answers(hub, commit)


def test_ids_do_not_depend_on_the_recorded_list(hub: RunningHub, hf_home: Path) -> None:
    for listing in hf_home.glob("hub/*/trees"):
        shutil.rmtree(listing)
    commit = hub.ask("GET", "/api/models/org/model").json["sha"]
    with RunningHub(hf_home / "hub") as mirror:
        assert answers(mirror, commit) == answers(hub, commit)


def test_a_cache_without_links_gives_the_same_answers(hub: RunningHub, hf_home: Path, tmp_path: Path) -> None:
    # As on a file system without symlinks: real files in `snapshots/`, no `blobs/`, and here no list either.
    plain = tmp_path / "plain"
    shutil.copytree(hf_home, plain, ignore=shutil.ignore_patterns("blobs", "trees"))
    commit = hub.ask("GET", "/api/models/org/model").json["sha"]
    with RunningHub(plain) as mirror:
        assert answers(mirror, commit) == answers(hub, commit)


def test_only_repos_are_served(hf_home: Path) -> None:
    source = open_source(hf_home)
    assert isinstance(source, CacheSource)
    assert source.repos() == [RepoKey("dataset", "org/corpus"), MODEL]
    with RunningHub(hf_home) as mirror:
        for path in ("/token", "/resolve/main/token", "/hub/resolve/main/token", "/../token/resolve/main/token"):
            answer = mirror.ask("GET", path)
            assert (answer.status, b"hf_secret" in answer.body) == (404, False)


def test_a_second_name_of_a_repo_is_a_renamed_one(hf_home: Path) -> None:
    (hf_home / "hub/models--nick").symlink_to("models--org--model")
    (hf_home / "hub/models--stray").symlink_to(hf_home.parent)
    source = CacheSource(hf_home / "hub")
    assert source.canonical(RepoKey("model", "nick")) == MODEL
    assert MODEL in source.repos() and RepoKey("model", "nick") not in source.repos()
    with pytest.raises(RepoNotServedError):
        source.canonical(RepoKey("model", "stray"))


def test_a_partial_snapshot_lists_what_is_present(hf_home: Path) -> None:
    (snapshot,) = [
        p for p in hf_home.glob("hub/models--org--model/snapshots/*") if (p / "model.safetensors").exists()
    ]
    (snapshot / "README.md").unlink()
    source = CacheSource(hf_home / "hub")
    listed = source.snapshot(MODEL, "main")
    assert "README.md" not in listed.files and "config.json" in listed.files
    with pytest.raises(FileNotServedError):
        source.open(MODEL, listed, "README.md")


def test_a_blob_of_another_size_is_not_served(hf_home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (weights,) = hf_home.glob("hub/models--org--model/snapshots/*/model.safetensors")
    weights.resolve().write_bytes(WEIGHTS[:-1])
    with caplog.at_level(logging.WARNING):
        listed = CacheSource(hf_home / "hub").snapshot(MODEL, "main")
    assert "model.safetensors" not in listed.files
    assert (
        f"model.safetensors of org/model has {len(WEIGHTS) - 1} bytes, recorded are {len(WEIGHTS)}" in caplog.text
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format_version": 2, "files": {}}',
        '{"format_version": 1, "files": [1]}',
        '{"format_version": 1, "files": {"config.json": {"size": "x", "blob_id": 1}}}',
    ],
)
def test_a_list_that_makes_no_sense_is_ignored(hf_home: Path, text: str) -> None:
    source = CacheSource(hf_home / "hub")
    before = source.snapshot(MODEL, "main")
    for listing in hf_home.glob("hub/*/trees/*"):
        listing.write_text(text)
    assert source.snapshot(MODEL, "main") == before


def test_links_that_leave_the_cache_are_not_followed(hf_home: Path) -> None:
    (hf_home / "outside.txt").write_text("outside")
    (snapshot,) = [p for p in hf_home.glob("hub/models--org--model/snapshots/*") if (p / "README.md").exists()]
    (snapshot / "README.md").unlink()
    (snapshot / "README.md").symlink_to(hf_home / "outside.txt")
    (snapshot / "token").symlink_to(hf_home / "token")
    assert {"README.md", "token"}.isdisjoint(CacheSource(hf_home / "hub").snapshot(MODEL, "main").files)


def test_refs_with_a_newline_are_read_and_others_are_unknown(hf_home: Path) -> None:
    ref = hf_home / "hub/models--org--model/refs/main"
    ref.write_text(ref.read_text() + "\n")
    (ref.parent / "bad").write_text("../../../etc")
    source = CacheSource(hf_home / "hub")
    assert source.snapshot(MODEL, "main").commit == ref.read_text().strip()
    for revision in ("bad", "none", "", "..", "../refs/main", "0" * 40):
        with pytest.raises(RevisionNotServedError):
            source.snapshot(MODEL, revision)
