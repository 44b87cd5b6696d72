"""What `load_dataset` was asked for is what the manifest says, and then answers the same program offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.draft.record.conftest import Record, program
from tests.support.hub import RunningHub
from tests.support.process import run, script

PYTHON = script("python")
LOAD = """
import json
from datasets import load_dataset
from huggingface_hub import hf_hub_download

def count(*names, **options):
    return {name: len(rows) for name, rows in load_dataset(*names, **options).items()}

print(json.dumps([
    count("org/both"),
    count("org/both", "small"),
    count("org/both", data_files={"train": ["test.jsonl", "small.jsonl"], "more": "large.jsonl"}),
    count("org/stack", data_dir="data/ada"),
    len(load_dataset("org/both", split="train[1:]")),
    open(hf_hub_download("org/raw", "notes.txt", repo_type="dataset")).read(),
]))
"""


@pytest.mark.slow
def test_datasets_are_recorded_as_they_were_asked_for_and_load_offline(
    record: Record, hub: RunningHub, tmp_path: Path
) -> None:
    code = program(tmp_path, LOAD)
    found = record(PYTHON, code)
    entries = found.entries
    assert entries["org/both"].configs == ("large", "small")
    assert entries["org/both"].data_files == ('{"train": ["test.jsonl", "small.jsonl"], "more": "large.jsonl"}',)
    assert entries["org/both"].allow_patterns is None
    assert entries["org/stack"].data_dirs == ("data/ada",)
    assert entries["org/stack"].allow_patterns == ("data/ada/train.jsonl",)
    assert entries["org/raw"].allow_patterns == ("notes.txt",)
    report = {repo["repo_id"]: repo for repo in found.report["repos"]}
    assert report["org/both"]["splits"] == ["all", "train[1:]"]

    # Once more, with everything in the cache, says the same.
    first = found.path.read_text()
    found.path.unlink()
    assert record(PYTHON, code).path.read_text() == first

    environment = {**hub.environment(tmp_path / "hf"), "BUNDLE_CACHE": str(tmp_path / "cache")}
    run([script("bundle"), "fetch", found.path], env=environment, cwd=tmp_path)
    empty = tmp_path / "empty"
    run([script("bundle"), "install", tmp_path / "program.tar.zst", "--hf-home", empty])
    offline = run([script("bundle"), "run", "--hf-home", empty, "--strict", "--", PYTHON, code])
    assert offline.stdout == found.done.stdout
    assert "attempts   0" in offline.stderr


@pytest.mark.slow
def test_what_a_manifest_cannot_say_is_told(record: Record, tmp_path: Path) -> None:
    code = """
from datasets import Features, Value, load_dataset
load_dataset("json", data_files="hf://datasets/org/both/small.jsonl")
load_dataset("org/both", "small", features=Features({"x": Value("string")}))
load_dataset("json", data_files="own.jsonl")
"""
    (tmp_path / "own.jsonl").write_text('{"y": 1}\n')
    found = record(PYTHON, program(tmp_path, code))
    told = "\n".join(found.report["warnings"])
    assert "program.py:3" in told
    assert "hf://" in told
    assert "features" in told
    assert list(found.entries) == ["org/both"]


@pytest.mark.slow
def test_a_dataset_that_is_prepared_already_is_recorded_when_nobody_is_asked(
    record: Record, hub: RunningHub, tmp_path: Path
) -> None:
    load = 'from datasets import load_dataset\nload_dataset("org/both", "small")\n'
    run([PYTHON, program(tmp_path, load)], env=hub.environment(tmp_path / "hf"))
    offline = 'import os\nos.environ["HF_HUB_OFFLINE"] = "1"\n' + load
    found = record(PYTHON, program(tmp_path, offline))
    assert found.entries["org/both"].configs == ("small",)
    assert len(found.report["repos"][0]["commit"]) == 40
