"""A small folder of repos, every kind of thing in it once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import RunningHub

WEIGHTS = bytes(range(256)) * 4096


def write_tree(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files by their relative paths; return the folder."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def write_repos(folder: Path) -> Path:
    """Write three models, one with a tag and a branch, one gated; datasets, a kernel, a space, and old names."""
    return write_tree(
        folder,
        {
            "org/model/.gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
            "org/model/README.md": b"# A model\n",
            "org/model/config.json": b'{"model_type": "gpt2"}',
            "org/model/model.safetensors": WEIGHTS,
            "org/model/onnx/fp16/model.onnx": b"onnx",
            "org/model/onnx/config.json": b"{}",
            "org/model/name with spaces+plus%20.txt": b"odd name",
            "org/secret/config.json": b'{"secret": true}',
            "legacy/config.json": b"{}",
            "legacy/onnx/model.onnx": b"onnx",
            "datasets/org/corpus/train.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
            "datasets/squad/README.md": b"# squad\n",
            "kernels/org/relu/build/torch-universal/__init__.py": b"",
            "spaces/org/metric/metric.py": b"",
            "_branches/model-dev/config.json": b'{"model_type": "gpt2", "dev": true}',
            "hub.yaml": b"""\
version: 1
renames:
  old-model: org/model
  datasets/old-corpus: datasets/org/corpus
gated:
  org/secret: [hf_granted]
tags:
  org/model: {v1.0: main}
branches:
  org/model: {feature/dev: _branches/model-dev}
""",
        },
    )


@pytest.fixture
def repos(tmp_path: Path) -> Path:
    """Those repos, to be changed by the test."""
    return write_repos(tmp_path / "repos")


@pytest.fixture(scope="module")
def shared_repos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those repos, to be read only; beside them lies a file that nobody may get."""
    folder = tmp_path_factory.mktemp("shared")
    write_tree(folder, {"secret.txt": b"outside"})
    return write_repos(folder / "repos")


@pytest.fixture(scope="module")
def shared_hub(shared_repos: Path) -> Iterator[RunningHub]:
    with RunningHub(shared_repos) as running:
        yield running


@pytest.fixture
def hub(shared_hub: RunningHub) -> RunningHub:
    """A running Hub of `shared_repos`, its log empty."""
    shared_hub.clear()
    return shared_hub
