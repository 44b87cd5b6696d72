"""Python of a repo that the proof runs reads nothing of ours, changes nothing that is packed, and stays no longer."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import ProofError, SandboxError
from bundler.make.fetch import fetch
from bundler.make.proof.findings import parse_findings
from bundler.make.proof.process import confinement
from bundler.make.proof.process.confinement import SandboxChoice, choose_confinement
from bundler.make.proof.run import prove
from bundler.make.store import Store
from bundler.offline.sandbox.limits import Limits
from bundler.offline.sandbox.namespaces import holds_tasks
from bundler.offline.sandbox.sandbox import Sandbox, choose_sandbox
from bundler.plan.lock import Lock
from tests.support.hub import RunningHub
from tests.support.remote import lock_of, locked, write_repo

KINDS = [kind for kind in ("namespaces", "landlock") if choose_sandbox((kind,)).kind == kind]  # type: ignore[comparison-overlap]

# Tells what it found out by the message of an error, the only way out that it has.
NOSY = """
import json, os
from transformers import PretrainedConfig

found = {}
try:
    found["key"] = open(KEY).read()
except OSError as error:
    found["key"] = type(error).__name__
found["home"] = os.listdir(os.path.expanduser("~"))
try:
    found["parent"] = open(f"/proc/{PARENT}/environ").read()
except OSError as error:
    found["parent"] = type(error).__name__
found["changed"] = []
for folder, _, names in os.walk(os.environ["HF_HOME"] + "/hub"):
    for name in names:
        try:
            open(os.path.join(folder, name), "ab").write(b" ")
            found["changed"].append(name)
        except OSError:
            pass
found["secrets"] = [name for name in os.environ if "SECRET" in name or "ghp_" in os.environ[name]]
raise RuntimeError("found " + json.dumps(found, sort_keys=True) + " end")
"""

POSING = """
import json, os, sys
job = json.load(open(sys.argv[-1]))
os.symlink(TARGET, job["result"])
os._exit(0)
"""


def remote_code(tmp_path: Path, code: str, **values: object) -> tuple[Lock, Store]:
    """Fetch a repo whose config names Python of its own."""
    head = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    files = {
        "config.json": b'{"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.Config"}}',
        "configuration_own.py": (head + code).encode(),
    }
    write_repo(tmp_path / "hub" / "org" / "own", files)
    store = Store(tmp_path / "store")
    with RunningHub(tmp_path / "hub") as hub:
        repo = replace(locked(hub.endpoint, "org/own", kind="tokenizer"), trust_remote_code=True)
        return fetch(lock_of(repo), store, endpoint=hub.endpoint).lock, store


@pytest.mark.parametrize("sandbox", KINDS)
def test_remote_code_finds_no_secret_and_changes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: SandboxChoice
) -> None:
    key = tmp_path / "id_ed25519"
    key.write_text("PRIVATE KEY")
    monkeypatch.setenv("CLOUD_SECRET", "secret")
    monkeypatch.setenv("GIT_PASSWORD", "ghp_secret")
    lock, store = remote_code(tmp_path, NOSY, KEY=str(key), PARENT=os.getpid())
    with pytest.raises(ProofError) as caught:
        prove(lock, store, sandbox=sandbox)
    (found,) = re.findall("found (.*?) end", str(caught.value))
    parent = json.loads(found).pop("parent")
    key_result = {"namespaces": "FileNotFoundError", "landlock": "PermissionError"}[sandbox]
    assert parent == key_result
    assert json.loads(found) == {
        "changed": [],
        "home": [],
        "key": key_result,
        "parent": parent,
        "secrets": [],
    }
    for repo in lock.repos:
        for file in repo.files:
            assert store.find_verified(file.etag) is not None


@pytest.mark.skipif(not KINDS, reason="this kernel has no sandbox")
def test_a_result_that_is_a_link_to_another_file_is_none(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text(json.dumps([{"index": 0, "proven": ["everything"]}]))
    lock, store = remote_code(tmp_path, POSING, TARGET=str(target))
    with pytest.raises(ProofError, match="without a result"):
        prove(lock, store)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[3]",
        "[" * 100_000,
        '[{"index": 1}]',
        '[{"index": true}]',
        '[{"index": 0, "proven": "x"}]',
        '[{"index": 0, "notes": [3]}]',
        '[{"index": 0, "failure": 3}]',
        '[{"index": 0, "unknown": 3}]',
    ],
)
def test_a_result_that_no_child_of_ours_writes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"finding|Expecting"):
        parse_findings(text.encode(), 1)


def test_without_a_sandbox_remote_code_runs_only_if_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, _ = remote_code(tmp_path, "")
    plain = lock.with_repos(tuple(replace(repo, trust_remote_code=False) for repo in lock.repos))
    none = Sandbox(kind="none", detail="no sandbox; no namespaces: refused")
    # A kernel that has none of it cannot be had for a test.
    monkeypatch.setattr(confinement, "choose_sandbox", lambda kinds: none)
    with pytest.raises(SandboxError, match=r"org/own .*no namespaces: refused") as caught:
        choose_confinement(lock)
    assert caught.value.exit_code == 11 and "--unsandboxed" in str(caught.value)
    assert choose_confinement(plain) == none
    assert choose_confinement(lock, sandbox="none").kind == "none"


LOOPING = "while True: pass"
FORKING = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(1000)
    except OSError:
        time.sleep(1000)
"""
# Each copy makes copies.
DOUBLING = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
EATING = """
held = []
while True:
    held.append(bytearray(os.urandom(1)) * (16 << 20))
"""
FILLING = """
import os
for number in range(10**9):
    with open(os.path.expanduser(f"~/{number}"), "wb") as file:
        file.write(b"x" * (1 << 20))
"""
PRINTING = """
import sys
while True:
    sys.stdout.write("x" * (1 << 20))
    sys.stdout.flush()
"""
LONG = """
import os
with open(os.path.expanduser("~/long"), "wb") as file:
    while True:
        file.write(b"x" * (1 << 20))
"""
# Deep beyond what a path can name, and closed to its owner.
HIDING = """
import os
os.chdir(os.path.expanduser("~"))
for level in range(3000):
    os.mkdir("x")
    os.chdir("x")
os.mkdir("closed", 0o000)
raise RuntimeError("hidden")
"""


@pytest.mark.slow
@pytest.mark.skipif(not KINDS, reason="this kernel has no sandbox")
@pytest.mark.parametrize(
    ("code", "limits", "why"),
    [
        (LOOPING, Limits(step_seconds=9), "took more than 0.15 minutes"),
        (FORKING, Limits(processes=100), "started more than 100 processes"),
        ("import os" + EATING, Limits(memory_bytes=1 << 30), r"took more than 1\.07 GB of memory"),
        (FILLING, Limits(written_bytes=64 << 20), r"wrote more than 67\.1 MB"),
        (LONG, Limits(written_bytes=64 << 20), r"File too large|wrote more than 67\.1 MB"),
        (PRINTING, Limits(written_bytes=64 << 20), r"File too large|wrote more than 67\.1 MB"),
        (HIDING, Limits(), "hidden|cannot be looked into"),
    ],
    ids=["loops", "forks", "eats memory", "fills the disk", "writes a long file", "prints", "hides"],
)
def test_remote_code_that_takes_too_much_is_ended_and_named(
    tmp_path: Path, code: str, limits: Limits, why: str
) -> None:
    lock, store = remote_code(tmp_path, code)
    with pytest.raises(ProofError, match=why) as caught:
        prove(lock, store, limits=limits)
    assert "tokenizers[0] (org/own)" in str(caught.value)
    assert caught.value.exit_code == 8
    assert list((tmp_path / "store" / "work").iterdir()) == []
    assert _still_running(str(store.root)) == []


def _still_running(mark: str) -> list[str]:
    """Processes that were started with this text among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [path.parent.name] if mark.encode() in path.read_bytes() else []
    return found


@pytest.mark.slow
@pytest.mark.skipif("landlock" not in KINDS, reason="this kernel has no Landlock")
def test_what_forks_beside_other_processes_is_ended_to_the_last(tmp_path: Path) -> None:
    lock, store = remote_code(tmp_path, FORKING)
    with pytest.raises(ProofError, match="started more than 100 processes"):
        prove(lock, store, sandbox="landlock", limits=Limits(processes=100))
    assert _still_running(str(store.root)) == []


@pytest.mark.slow
@pytest.mark.skipif("namespaces" not in KINDS or not holds_tasks(), reason="takes Linux 6.14 and namespaces")
def test_copies_that_make_copies_are_held_by_the_kernel_and_ended(tmp_path: Path) -> None:
    lock, store = remote_code(tmp_path, DOUBLING)
    with pytest.raises(ProofError, match="started more than 100 processes"):
        prove(lock, store, sandbox="namespaces", limits=Limits(processes=100))
    assert list((tmp_path / "store" / "work").iterdir()) == []
    assert _still_running(str(store.root)) == []
