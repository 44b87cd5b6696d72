"""A tiny installed bundle, commands run through `bundle run`, and whether this machine can isolate.

Addresses of the outside in these tests are of documentation networks (RFC 5737, RFC 3849) and only ever used where
the guard or a network namespace refuses them before a packet leaves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.errors import OfflineError
from bundler.home.installation.install import install
from bundler.offline.kernel.isolation import Requested, choose
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.process import script

OUTSIDE = "198.51.100.7"

TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"hello": 0, "world": 1, "[UNK]": 2}, "unk_token": "[UNK]"},
}
FILES = {
    "config.json": b'{"model_type": "gpt2"}',
    "tokenizer.json": json.dumps(TOKENIZER).encode(),
    "tokenizer_config.json": b'{"tokenizer_class": "PreTrainedTokenizerFast"}',
}


def _why_no(kind: Requested) -> str:
    try:
        choose(kind)
    except OfflineError as error:
        return error.message
    return ""


def _needs(kind: Requested) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(_REASONS[kind]), reason=_REASONS[kind])


_REASONS: dict[Requested, str] = {kind: _why_no(kind) for kind in ("netns", "seccomp", "landlock")}
needs_netns, needs_seccomp, needs_landlock = _needs("netns"), _needs("seccomp"), _needs("landlock")

# The isolation kinds that work here; the guard must hold on its own as well.
KINDS = [*(kind for kind, reason in _REASONS.items() if not reason), "none"]
COUNTING = ("netns", "seccomp")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A HF_HOME with the bundle `tiny`: a tokenizer, also known as `short`."""
    repo = locked_repo("org/tiny-tokenizer", FILES, kind="tokenizer", aliases=["short"])
    install(tiny_bundle(tmp_path / "built", repo, contents=FILES.values()), tmp_path / "hf-home")
    return tmp_path / "hf-home"


@dataclass(frozen=True)
class Ran:
    """A finished `bundle run`."""

    code: int
    out: str
    err: str
    report: dict[str, object]

    @property
    def attempts(self) -> tuple[object, object]:
        """What the guard and what the kernel counted."""
        counted = self.report["attempts"]
        assert isinstance(counted, dict)
        return counted["python"], counted["kernel"]


BundleRun = Callable[..., Ran]


@pytest.fixture
def bundle_run(home: Path, tmp_path: Path) -> BundleRun:
    """Return a function that runs a command through `bundle run` on the tiny bundle."""

    def run(*words: str | Path, options: tuple[str, ...] = (), env: Mapping[str, str] | None = None) -> Ran:
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [script("bundle"), "run", "--hf-home", home, "--report", report, *options, "--", *words],
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        content = json.loads(report.read_text()) if report.exists() else {}
        return Ran(done.returncode, done.stdout, done.stderr, content)

    return run


PYTHON = sys.executable
