"""Notes are read back whatever state they are in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundler.draft.record import notes
from bundler.draft.record.notes import FileUse, HostUse, read_notes
from bundler.draft.record.run import list_past_door, make_environment

COMMIT = "c" * 40
FILE = {"kind": "file", "repo_type": "model", "repo_id": "o/n", "revision": "main", "commit": COMMIT, "path": "x"}


def test_a_line_that_is_not_whole_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_text(json.dumps(FILE) + "\n" + json.dumps(FILE)[:40])
    (tmp_path / "2.jsonl").write_text("[]\nnull\n")
    assert read_notes(tmp_path).files == (FileUse("model", "o/n", "main", COMMIT, "x"),)


def test_names_that_no_repo_has_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_text(json.dumps({**FILE, "repo_id": "../etc"}) + "\n")
    assert read_notes(tmp_path).files == ()


def test_notes_that_are_too_long_are_said_and_the_others_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "_MOST_BYTES", 500)
    (tmp_path / "1.jsonl").write_text(json.dumps(FILE) + "\n")
    (tmp_path / "2.jsonl").write_text((json.dumps(FILE) + "\n") * 10)
    found = read_notes(tmp_path)
    assert len(found.files) == 1
    assert "left out" in found.faults[0]


def test_who_asks_the_hub_by_its_own_address_is_named() -> None:
    hosts = [HostUse("hub.example", 443, "train.py:3"), HostUse("other.example", 443, "train.py:4")]
    (line,) = list_past_door(hosts, "https://hub.example/mirror")
    assert line.startswith("train.py:3 asks hub.example past HF_ENDPOINT")


def test_the_environment_is_the_users_but_for_what_watches(tmp_path: Path) -> None:
    base = {"PYTHONPATH": "/mine", "no_proxy": "x.example", "HF_HOME": "/hf", "HF_TOKEN": "t"}
    made = make_environment(base, "http://127.0.0.1:1", tmp_path)
    assert made["PYTHONPATH"].endswith(":/mine")
    assert made["no_proxy"] == "x.example,127.0.0.1,localhost"
    changed = {name for name in made if made[name] != base.get(name)}
    assert changed == {
        *("PYTHONPATH", "BUNDLE_RECORD_DIR", "HF_ENDPOINT", "NO_PROXY", "no_proxy"),
        *("DISABLE_SAFETENSORS_CONVERSION", "HF_UPDATE_DOWNLOAD_COUNTS"),
    }
