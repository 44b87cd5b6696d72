"""Which files are LFS files."""

from __future__ import annotations

import pytest

from bundler.serve.sources.lfs import LFS_THRESHOLD_BYTES, LfsRule


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.bin", "model.bin", True),
        ("*.bin", "deep/down/model.bin", True),
        ("*.bin", "model.binary", False),
        ("*.bin.*", "model.bin.part1", True),
        ("model.safetensors", "deep/model.safetensors", True),
        ("/model.safetensors", "deep/model.safetensors", False),
        ("onnx/*.onnx", "onnx/model.onnx", True),
        ("onnx/*.onnx", "onnx/deep/model.onnx", False),
        ("onnx/*.onnx", "deep/onnx/model.onnx", False),
        ("saved_model/**/*", "saved_model/variables/0/data", True),
        ("saved_model/**/*", "saved_model/data", True),
        ("saved_model/**", "saved_model/a/b", True),
        ("**/cache/*", "a/b/cache/x", True),
        ("*tfevents*", "runs/events.out.tfevents.1", True),
        ("shard-[0-9].bin", "shard-1.bin", True),
        ("shard-[!0-9].bin", "shard-1.bin", False),
        ("shard-?.bin", "shard-12.bin", False),
        ("a+b(c).bin", "a+b(c).bin", True),
    ],
)
def test_patterns_of_gitattributes_match_as_in_git(pattern: str, path: str, expected: bool) -> None:
    assert LfsRule(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n")(path, 1) is expected


def test_the_last_line_that_matches_decides() -> None:
    rule = LfsRule("*.json filter=lfs -text\nconfig.json -filter\n# *.txt filter=lfs\n*.md text\n")
    assert [rule(path, 1) for path in ("data.json", "config.json", "a.txt", "a.md")] == [True, False, False, False]


def test_a_repo_without_gitattributes_has_the_usual_lfs_files() -> None:
    rule = LfsRule(None)
    paths = ["model.safetensors", "data/train.parquet", "pytorch_model.bin", "config.json", "train.jsonl"]
    assert [rule(path, 1) for path in paths] == [True, True, True, False, False]


@pytest.mark.parametrize("attributes", [None, "", "*.json -filter\n"])
def test_a_large_file_is_always_an_lfs_file(attributes: str | None) -> None:
    rule = LfsRule(attributes)
    assert not rule("vocab.json", LFS_THRESHOLD_BYTES - 1)
    assert rule("vocab.json", LFS_THRESHOLD_BYTES)
