"""What `load_dataset` answers in an offline launch is what it answers online, or an error; with the stock library.

One bundle and one launch: each starts processes that import `datasets`, which takes seconds.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.support.hub import RunningHub
from tests.support.messages import Told
from tests.support.process import run, script
from tests.support.remote import write_repo

CARD = b"""---
configs:
- config_name: small
  data_files: small.jsonl
- config_name: large
  data_files: large.jsonl
  default: true
---
"""
MANIFEST = """\
version: 1
name: calls
datasets:
  - {repo_id: org/both}
  - {repo_id: org/small, configs: [small]}
  - {repo_id: org/part, allow_patterns: [small.jsonl], configs: [small]}
  - {repo_id: org/stack, data_dirs: [data/ada]}
  - {repo_id: org/tagged, revision: v1}
  - {repo_id: org/twice}
  - {repo_id: org/twice, revision: v1}
"""
HUB_YAML = """\
version: 1
tags:
  datasets/org/tagged: {v1: main}
branches:
  datasets/org/twice: {v1: _branches/v1}
"""
# Calls, and what each gives: rows of the train split, or the first words of an error.
CALLS = {
    "load('org/both')": 3,
    "load('org/both', 'small')": 1,
    "load('org/both', split='train[1:]')": 2,
    "load('org/both', streaming=True)": 3,
    "load('org/both', revision='main')": 3,
    "load('org/both', revision=COMMIT)": 3,
    "load('org/both', revision='v2')": "offline: dataset org/both at v2",
    "load('org/both', data_files='small.jsonl')": 1,
    "load('org/both', cache_dir='elsewhere')": 3,
    "load('org/both', features=Features({'x': Value('string')}))": 3,
    "load('org/small')": 3,
    "load('org/small', 'small')": 1,
    "load('org/small', 'large')": 3,
    "load('org/small', 'other')": "BuilderConfig 'other' not found",
    "load('org/part', 'small')": 1,
    "load('org/part')": "offline: load_dataset('org/part')",
    "load('org/part', data_files='*.jsonl')": "offline: load_dataset('org/part', data_files='*.jsonl')",
    "load('org/stack', data_dir='data/ada')": 1,
    "load('org/stack', data_dir='data/ada/')": 1,
    "load('org/stack', data_dir='data')": 3,
    "load('org/stack', data_dir='data/fortran', split='train')": 2,
    "load('org/stack')": 3,
    "load('org/tagged')": 1,
    "load('org/tagged', revision='v1')": 1,
    "load('org/twice')": 2,
    "load('org/twice', revision='v1')": 1,
    "builder('org/both').config.name": "large",
    "configs('org/both')": ["small", "large"],
    "configs('org/small')": ["small", "large"],
    "configs('org/stack')": ["default"],
    "default('org/both')": "large",
    "splits('org/both', 'small')": ["train"],
    "configs('org/both', revision='v2')": "offline: dataset org/both at v2",
}
PROGRAM = """\
import json, sys
from datasets import Features, Value, load_dataset_builder as builder
from datasets import get_dataset_config_names as configs, get_dataset_default_config_name as default
from datasets import get_dataset_split_names as splits

def load(*arguments, **options):
    from datasets import load_dataset
    found = load_dataset(*arguments, **options)
    rows = found if options.get("split") else found["train"]
    return sum(1 for _ in rows)

COMMIT, said = sys.argv[1], {}
for call in sys.argv[2:]:
    sys.stderr.write(f"== {call}\\n")
    try:
        said[call] = eval(call)
    except Exception as error:
        said[call] = str(error)
print(json.dumps(said))
"""


class Launched:
    """What one launch of all calls gave, and what it wrote to stderr for each."""

    def __init__(self, out: str, err: str, fetched: str, commit: str) -> None:
        self.said: dict[str, Any] = json.loads(out)
        parts = err.split("== ")[1:]
        self.notes = {
            part.partition("\n")[0]: [line for line in part.splitlines() if line.startswith("offline: ")]
            for part in parts
        }
        self.fetched = fetched
        self.commit = commit


def lines(count: int) -> bytes:
    return b'{"x": "1"}\n' * count


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    folder = tmp_path_factory.mktemp("calls")
    two = {"README.md": CARD, "small.jsonl": lines(1), "large.jsonl": lines(3)}
    for name, files in {
        "datasets/org/both": two,
        "datasets/org/small": two,
        "datasets/org/part": two,
        "datasets/org/stack": {"data/ada/train.jsonl": lines(1), "data/fortran/train.jsonl": lines(2)},
        "datasets/org/tagged": {"train.jsonl": lines(1)},
        "datasets/org/twice": {"train.jsonl": lines(2)},
        "_branches/v1": {"train.jsonl": lines(1)},
    }.items():
        write_repo(folder / "repos" / name, files)
    (folder / "repos" / "hub.yaml").write_text(HUB_YAML)
    (folder / "calls.yaml").write_text(MANIFEST)
    with RunningHub(folder / "repos") as hub:
        environment = {**hub.environment(folder / "hf"), "BUNDLE_CACHE": str(folder / "cache")}
        fetched = run([script("bundle"), "fetch", "calls.yaml"], env=environment, cwd=folder).stderr
    home = folder / "home"
    run([script("bundle"), "install", folder / "calls.tar.zst", "--hf-home", home])
    lock = json.loads((folder / "calls.lock").read_text())
    (folder / "program.py").write_text(PROGRAM)
    words = [script("bundle"), "run", "--strict", "--hf-home", home, "--"]
    words += [sys.executable, folder / "program.py", lock["repos"][0]["commit"], *CALLS]
    done = run([str(word) for word in words], cwd=folder)
    return Launched(done.stdout, done.stderr, fetched, lock["repos"][0]["commit"])


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_a_call_gives_what_it_gives_online_or_an_error_that_says_why(launched: Launched, call: str) -> None:
    expected, found = CALLS[call], launched.said[call]
    assert found == expected or (isinstance(expected, str) and str(found).startswith(expected)), found


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        "load('org/both', revision='v2')",
        "load('org/part')",
        "load('org/small')",
        "load('org/stack', data_dir='data/fortran', split='train')",
        "load('org/tagged')",
    ],
)
def test_what_was_not_prepared_before_is_said_with_the_line_to_write(
    launched: Launched, call: str, told: Told
) -> None:
    said = launched.said[call]
    words = said if isinstance(said, str) else "\n".join(launched.notes[call])
    told("datasets", call, words, commit=launched.commit[:12])


@pytest.mark.slow
def test_what_was_prepared_when_the_bundle_was_fetched_is_read_without_a_word(launched: Launched) -> None:
    quiet = {call for call, notes in launched.notes.items() if not notes and isinstance(CALLS[call], int)}
    assert {
        "load('org/both')",
        "load('org/both', 'small')",
        "load('org/both', streaming=True)",
        "load('org/both', revision=COMMIT)",
        "load('org/small', 'small')",
        "load('org/part', 'small')",
        "load('org/stack', data_dir='data/ada')",
        "load('org/stack', data_dir='data/ada/')",
    } <= quiet


@pytest.mark.slow
def test_lock_and_proof_name_the_default_that_was_not_wanted(launched: Launched, told: Told) -> None:
    said = [line.strip() for line in launched.fetched.splitlines() if "means" in line]
    told("datasets", "a default configuration that is left out", "\n".join(said))
