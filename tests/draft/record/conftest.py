"""A Hub of small repos, and `bundle record` on it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bundler.plan.manifest import Manifest
from tests.offline.conftest import FILES
from tests.serve.conftest import write_tree
from tests.support.hub import RunningHub
from tests.support.process import run, script

CARD = b"""---
configs:
- config_name: small
  data_files: small.jsonl
- config_name: large
  data_files: [{split: train, path: large.jsonl}, {split: test, path: test.jsonl}]
  default: true
---
"""
ROW = b'{"x": 1}\n'
REPOS = {
    **{f"org/words/{name}": content for name, content in FILES.items()},
    "org/plain/config.json": b"{}",
    "org/plain/a.gguf": b"GGUF" + bytes(20),
    "org/plain/b.gguf": b"GGUF" + bytes(40),
    "org/plain/.gitattributes": b"*.gguf filter=lfs diff=lfs merge=lfs -text\n",
    "_branches/plain-dev/a.gguf": b"GGUF of another branch",
    "datasets/org/both/README.md": CARD,
    "datasets/org/both/small.jsonl": ROW,
    "datasets/org/both/large.jsonl": ROW * 3,
    "datasets/org/both/test.jsonl": ROW * 2,
    "datasets/org/stack/data/ada/train.jsonl": ROW,
    "datasets/org/stack/data/c/train.jsonl": ROW * 2,
    "datasets/org/raw/notes.txt": b"notes\n",
    "datasets/org/raw/archive.bin": bytes(50),
    "spaces/org/metric/metric.py": b"x = 1\n",
    "hub.yaml": b"version: 1\nrenames: {words: org/words}\nbranches:\n  org/plain: {dev: _branches/plain-dev}\n",
}


@dataclass(frozen=True)
class Recorded:
    """What `bundle record` did.

    Attributes:
        done: The command that has ended.
        path: The manifest's path, where it would be.
        report: The JSON report.
    """

    done: subprocess.CompletedProcess[str]
    path: Path
    report: dict[str, Any]

    @property
    def manifest(self) -> Manifest:
        return Manifest.load(self.path)

    @property
    def entries(self) -> dict[str, Any]:
        """Entry by name."""
        return {entry.repo_id: entry for entry in self.manifest.entries}


Record = Callable[..., Recorded]


@pytest.fixture(scope="session")
def _hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    repos = {path: content for path, content in REPOS.items() if not path.startswith("spaces/")}
    with RunningHub(write_tree(tmp_path_factory.mktemp("repos"), repos)) as hub:
        yield hub


@pytest.fixture
def hub(_hub: RunningHub) -> RunningHub:
    _hub.clear()
    return _hub


@pytest.fixture
def record(hub: RunningHub, tmp_path: Path) -> Record:
    """Run `bundle record` on a program, with the cache `tmp_path/hf` and the manifest `tmp_path/program.yaml`."""

    def start(
        *words: str | Path, check: bool = True, options: tuple[str, ...] = (), **environment: str
    ) -> Recorded:
        path, report = tmp_path / "program.yaml", tmp_path / "report.json"
        argv = [script("bundle"), "record", "-o", path, "--report", report, *options, "--", *words]
        done = run(argv, env={**hub.environment(tmp_path / "hf"), **environment}, cwd=tmp_path, check=check)
        return Recorded(done, path, json.loads(report.read_text()) if report.exists() else {})

    return start


def program(folder: Path, code: str) -> Path:
    """Write a program; return its path."""
    path = folder / "program.py"
    path.write_text(code)
    return path
