"""The proof of entries with Python of their own: it is imported as libraries do, and what is missing is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from bundler.errors import ProofError
from bundler.make.fetch import fetch
from bundler.make.proof.run import EntryProof, prove
from bundler.make.store import Store
from bundler.plan.lock import LockedRepo
from tests.support.hub import RunningHub
from tests.support.remote import lock_of, locked, write_repo

pytest.importorskip("sentence_transformers")

MODULE = b"""import torch
from sentence_transformers.base.modules import Module

from .scale import SCALE


class Doubled(Module):
    def tokenize(self, texts, **options):
        return {"lengths": torch.tensor([[float(len(text))] for text in texts])}

    def forward(self, features, **options):
        return {**features, "sentence_embedding": features["lengths"] * SCALE}

    def save(self, path, *arguments, **options):
        pass

    @classmethod
    def load(cls, *arguments, **options):
        return cls()
"""
SCALE = b"SCALE = 2.0\n"
WEIGHTS = save({"w": np.zeros((2, 2), dtype=np.float32)})


def modules(kind: str) -> bytes:
    return json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}]).encode()


REPOS = {
    "org/own": {
        "modules.json": modules("own.Doubled"),
        "own.py": MODULE,
        "scale.py": SCALE,
        "m.safetensors": WEIGHTS,
    },
    "org/broken": {"modules.json": modules("own.Doubled"), "own.py": MODULE, "m.safetensors": WEIGHTS},
    "org/other": {"modules.json": modules("org/code--own.Doubled"), "m.safetensors": WEIGHTS},
    "org/code": {"own.py": MODULE, "scale.py": SCALE},
    "org/generating": {
        "custom_generate/generate.py": b"def generate(model, **options):\n    return None\n",
        "m.safetensors": WEIGHTS,
    },
    "org/misgenerating": {"custom_generate/generate.py": b"def generat(:\n", "m.safetensors": WEIGHTS},
}


class Cargo:
    """A Hub with these repos, and the proof of what was fetched from it."""

    def __init__(self, hub: RunningHub, store: Store) -> None:
        self.hub = hub
        self.store = store

    def entry(self, repo_id: str, *, trusted: bool = True, without: tuple[str, ...] = ()) -> LockedRepo:
        return replace(locked(self.hub.endpoint, repo_id, without=without), trust_remote_code=trusted)

    def prove(self, *entries: LockedRepo) -> tuple[EntryProof, ...]:
        return prove(fetch(lock_of(*entries), self.store, endpoint=self.hub.endpoint).lock, self.store).entries


@pytest.fixture(scope="module")
def cargo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cargo]:
    root = tmp_path_factory.mktemp("hub")
    for name, files in REPOS.items():
        write_repo(root / name, files)
    with RunningHub(root) as hub:
        yield Cargo(hub, Store(tmp_path_factory.mktemp("store")))


def test_python_that_modules_and_generation_name_is_run_as_a_program_runs_it(cargo: Cargo) -> None:
    own, other, _, generating, untrusted = cargo.prove(
        cargo.entry("org/own"),
        cargo.entry("org/other"),
        cargo.entry("org/code"),
        cargo.entry("org/generating"),
        cargo.entry("org/own", trusted=False, without=("own.py", "scale.py")),
    )
    for entry in (own, other):
        assert "its own Python is imported (1 of 1 classes)" in entry.proven
        assert f"SentenceTransformer loads as {entry.repo_id}" in entry.proven
    assert "its generation code is imported as org/generating" in generating.proven
    assert untrusted.notes[-1] == (
        "not tried: SentenceTransformer('org/own'): modules.json names Python (own.py), and trust_remote_code is not "
        "set"
    )


def test_python_that_is_not_there_fails_with_the_line_to_add(cargo: Cargo) -> None:
    with pytest.raises(ProofError) as caught:
        cargo.prove(
            cargo.entry("org/own", without=("own.py",)),
            cargo.entry("org/broken"),
            cargo.entry("org/other"),
            cargo.entry("org/misgenerating"),
        )
    text = caught.value.message
    for expected in (
        "models[0] (org/own) does not load offline: modules.json names own.Doubled, and the bundle has no own.py of "
        'org/own\n  what to change: org/own: "*.py" among its allow_patterns',
        "models[1] (org/broken) does not load offline: importing own.Doubled: OSError: ",
        "scale.py",
        "models[2] (org/other) does not load offline: modules.json names org/code--own.Doubled, and the bundle has no "
        "org/code\n  what to change: add to models: - {repo_id: org/code, trust_remote_code: true, "
        'allow_patterns: ["*.py"]}',
        "models[3] (org/misgenerating) does not load offline: custom_generate/generate.py: ",
    ):
        assert expected in text
