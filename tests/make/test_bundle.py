"""The whole pipeline as one function: what it reports, in which order, and what it leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundler.errors import ProofError, UsageError
from bundler.format.reader import BundleReader
from bundler.format.storage.destinations import PipeDestination
from bundler.make.bundle import make_bundle
from bundler.make.bundle_plan import plan_bundle
from bundler.make.lock import LockMismatchError
from bundler.make.observer import Observer, Stage
from bundler.make.proof.proven import recall_proof
from bundler.make.sign import make_statement
from bundler.make.store import Store
from bundler.plan.lock import Lock
from bundler.trust.statement import Statement
from tests.support.hub import RunningHub


class Listener(Observer):
    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.expected = 0
        self.done = 0

    def begin(self, stage: Stage, text: str, size_bytes: int = 0) -> None:
        self.stages.append(stage)
        self.expected += size_bytes

    def progress(self, count: int) -> None:
        self.done += count


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text("version: 1\nname: small\ntokenizers:\n  - repo_id: gpt2\n")
    return path


def test_a_bundle_is_made_in_order_and_made_again_without_the_hub(
    demo_hub: RunningHub, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener, out = Listener(), tmp_path / "out" / "small.tar.zst"
    out.parent.mkdir()
    made = make_bundle(manifest, out, store=tmp_path / "store", endpoint=demo_hub.endpoint, observer=listener)
    # Said again where the bundle is written before all has loaded.
    assert listener.stages[:3] == ["fetch", "prove", "pack"] and listener.stages[3:] in ([], ["prove"])
    assert listener.done >= listener.expected > 0
    assert (made.path, made.packed.was_there, made.volumes) == (out, False, ())
    with BundleReader(out) as reader:
        assert (reader.digest, reader.lock) == (made.digest, made.lock)
    lock_path = manifest.with_suffix(".lock")
    assert Lock.loads(lock_path.read_text()) == made.lock and made.lock.is_complete

    lock_path.chmod(0o444)
    written = lock_path.stat()
    demo_hub.clear()
    again = make_bundle(manifest, out, mode="insist", store=tmp_path / "store", endpoint=demo_hub.endpoint)
    assert (again.digest, again.packed.was_there, again.proof.is_remembered) == (made.digest, True, True)
    assert (again.fetched.downloaded_files, demo_hub.requests) == (0, [])
    assert (lock_path.stat().st_ino, lock_path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)

    monkeypatch.chdir(out.parent)
    text = manifest.read_text()
    manifest.write_text(f"{text}prove: cat $HF_HOME/hub/*/blobs/*\n")
    with pytest.raises(ProofError, match="`exit 3` does not run offline: it ended with exit code 3"):
        make_bundle(manifest, out, store=tmp_path / "store", endpoint=demo_hub.endpoint, prove=["exit 3"])
    with BundleReader(out) as reader:
        assert reader.digest == made.digest
    shown = make_bundle(
        manifest, out, store=tmp_path / "store", endpoint=demo_hub.endpoint, prove=["wc -c $HF_HOME/hub/*/blobs/*"]
    )
    assert [proven.command for proven in shown.commands] == [
        "cat $HF_HOME/hub/*/blobs/*",
        "wc -c $HF_HOME/hub/*/blobs/*",
    ]
    assert (
        Lock.loads(lock_path.read_text()).proven_by
        == ("cat $HF_HOME/hub/*/blobs/*", "wc -c $HF_HOME/hub/*/blobs/*")
        and demo_hub.requests == []
    )
    insisted = make_bundle(
        manifest,
        out,
        mode="insist",
        store=tmp_path / "store",
        endpoint=demo_hub.endpoint,
        prove=["cat $HF_HOME/hub/*/refs/*; cat $HF_HOME/hub/*/blobs/*"],
    )
    assert insisted.lock.proven_by == (
        "cat $HF_HOME/hub/*/blobs/*",
        "cat $HF_HOME/hub/*/refs/*; cat $HF_HOME/hub/*/blobs/*",
    )
    assert Lock.loads(lock_path.read_text()).proven_by == shown.lock.proven_by
    statement = make_statement(shown, recall_proof(shown.lock, Store(tmp_path / "store")))
    assert statement.proof and statement.proof.commands == shown.lock.proven_by
    assert Statement.loads(statement.dumps(), source="x") == statement


def test_a_plan_counts_what_would_be_downloaded_and_writes_no_lock(
    demo_hub: RunningHub, manifest: Path, tmp_path: Path
) -> None:
    planned = plan_bundle(manifest, store=tmp_path / "store", endpoint=demo_hub.endpoint)
    assert planned.download_bytes == sum(repo.size_bytes for repo in planned.locked.lock.repos) > 0
    assert not manifest.with_suffix(".lock").exists()
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_a_lock_that_must_be_there_and_is_not_ends_it_before_anybody_is_asked(
    demo_hub: RunningHub, manifest: Path, tmp_path: Path
) -> None:
    with pytest.raises(LockMismatchError):
        make_bundle(manifest, mode="insist", store=tmp_path / "store", endpoint=demo_hub.endpoint)
    assert demo_hub.requests == [] and not manifest.with_suffix(".lock").exists()


def test_a_pipe_is_not_cut_into_volumes(demo_hub: RunningHub, manifest: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(UsageError):
            make_bundle(
                manifest,
                PipeDestination(writer),
                volume_bytes=10**6,
                store=tmp_path / "store",
                endpoint=demo_hub.endpoint,
            )
    finally:
        os.close(reader)
        os.close(writer)
    assert not manifest.with_suffix(".lock").exists()
