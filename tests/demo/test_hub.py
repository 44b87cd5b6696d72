"""The demo's content: real bytes, the same every time, made whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.errors import BundleError
from bundler.files.digest import git_blob_sha1
from demo.hub import GPT2, SPLITS, assemble, documents, raw_text
from tests.support.hub import RunningHub
from tests.support.process import TIMEOUT_SECONDS


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_gpt2_files_are_the_ones_on_the_hub(demo_hub_dir: Path) -> None:
    # The ids that https://huggingface.co/openai-community/gpt2/tree/main publishes for these files.
    ids = {path.name: git_blob_sha1(path.read_bytes()) for path in (demo_hub_dir / GPT2).iterdir()}
    assert ids == {
        "config.json": "10c66461e4c109db5a2196bff4bb59be30396ed8",
        "generation_config.json": "3dc481ecc3b2c47a06ab4e20dba9d7f4b447bdf3",
        "merges.txt": "226b0752cac7789c48f0cb3ec53eda48b7be36cc",
        "tokenizer_config.json": "be4d21d94f3b4687e5a54d84bf6ab46ed0f8defd",
        "vocab.json": "1f1d9aaca301414e7f6c9396df506798ff4eb9a6",
    }


def test_building_again_gives_the_same_bytes(demo_hub_dir: Path, tmp_path: Path) -> None:
    assemble(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(demo_hub_dir)
    assert list(tmp_path.iterdir()) == [tmp_path / "again"]


def test_a_whole_folder_is_left_alone_and_a_broken_one_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    assemble(folder)
    inode, before = folder.stat().st_ino, contents(folder)
    assemble(folder)
    assert folder.stat().st_ino == inode
    (folder / GPT2 / "vocab.json").unlink()
    assemble(folder)
    assert contents(folder) == before


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(BundleError, match="expected an empty folder"):
        assemble(tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"the only copy"}


def test_no_text_of_the_validation_split_is_in_the_train_split() -> None:
    train, validation = (
        {p for _, text in documents(split) for p in text.strip().split("\n\n")} for split in SPLITS
    )
    assert train and validation
    assert train.isdisjoint(validation)


def test_the_raw_text_is_that_of_the_dataset(demo_hub_dir: Path, tmp_path: Path) -> None:
    for split in SPLITS:
        raw_text(tmp_path / split, split=split)
        lines = (demo_hub_dir / f"datasets/infini-llama/cpython-docs/{split}.jsonl").read_text().splitlines()
        records = {record["topic"]: record["text"] for record in map(json.loads, lines)}
        files = {path.stem: path.read_text() for path in (tmp_path / split).iterdir()}
        assert files == records


def test_the_old_name_of_gpt2_redirects(demo_hub: RunningHub) -> None:
    answer = demo_hub.ask("GET", "/api/models/gpt2")
    assert (answer.status, answer.headers["location"]) == (307, f"/api/models/{GPT2}")


def test_several_processes_can_build_at_once(tmp_path: Path) -> None:
    builders = [
        subprocess.Popen([sys.executable, "-m", "demo.hub", tmp_path / "hub"], cwd=Path(__file__).parents[2])
        for _ in range(4)
    ]
    assert [builder.wait(TIMEOUT_SECONDS) for builder in builders] == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == [tmp_path / "hub"]
    assert (tmp_path / "hub" / GPT2 / "vocab.json").is_file()
