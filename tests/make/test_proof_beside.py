"""A proof that goes on while the bundle is written: nothing has a name before it ends, and nothing outlives it."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bundler.errors import ProofError
from bundler.make.bundle import make_bundle
from bundler.make.observer import Observer
from bundler.make.proof import stage
from bundler.make.proof.findings import Finding, UnloadableError
from bundler.make.proof.stage import Proving, begin_proof
from bundler.make.store import Store
from bundler.plan.lock import Lock
from tests.support.hub import RunningHub
from tests.support.process import TIMEOUT_SECONDS, wait_until
from tests.support.remote import lock_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it goes on beside on Linux alone")


def begin(store: Store) -> AbstractContextManager[Proving]:
    return begin_proof(
        lock_of(),
        store,
        commands=(),
        insist=False,
        sandbox="auto",
        minutes=1,
        watcher=Observer(),
        beside=True,
    )


@pytest.mark.parametrize("volume_bytes", [None, 1_000_000])
def test_a_bundle_has_no_name_before_all_has_loaded_and_none_if_it_does_not(
    demo_hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume_bytes: int | None
) -> None:
    out, lock_path = tmp_path / "out" / "small.tar.zst", tmp_path / "small.lock"
    out.parent.mkdir()
    (tmp_path / "small.yaml").write_text("version: 1\nname: small\ntokenizers:\n  - repo_id: gpt2\n")
    seen = tmp_path / "seen"

    def fail_once_it_is_written(lock: Lock, *_: object, **__: object) -> None:
        wait_until(lambda: list(out.parent.iterdir()))
        seen.write_text(" ".join(path.name for path in out.parent.iterdir()))
        raise ProofError("it does not load", hint="change it")

    monkeypatch.setattr(stage, "prove_once", fail_once_it_is_written)
    with pytest.raises(ProofError, match="it does not load") as caught:
        make_bundle(
            tmp_path / "small.yaml",
            out,
            volume_bytes=volume_bytes,
            store=tmp_path / "store",
            endpoint=demo_hub.endpoint,
        )
    assert caught.value.hint == "change it"
    # It was being written beside the proof, under other names.
    assert seen.read_text() and out.name not in seen.read_text()
    assert list(out.parent.iterdir()) == [] and list((tmp_path / "store" / "work").iterdir()) == []
    assert not Lock.loads(lock_path.read_text()).is_complete


def test_a_failure_is_known_before_it_is_asked_for_and_raised_whole_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UnloadableError("models[0] does not load", [Finding(0, failure="torn")])

    monkeypatch.setattr(stage, "prove_once", fail)
    with begin(Store(tmp_path)) as proving:
        wait_until(proving.is_done)
        for ask in (proving.raise_failure, proving.finish, proving.raise_failure):
            with pytest.raises(UnloadableError, match="does not load") as caught:
                ask()
            assert caught.value.findings[0].failure == "torn"


def test_a_proof_that_nobody_waits_for_ends_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk is full before all has loaded, and at Ctrl-C."""

    def take_long(lock: Lock, store: Store, **_: object) -> None:
        with store.work_folder() as folder:
            (folder / f"{os.getpid()}").touch()
            time.sleep(TIMEOUT_SECONDS)

    monkeypatch.setattr(stage, "prove_once", take_long)
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt), begin(store) as proving:
        wait_until(lambda: list((store.root / "work").glob("*/*")))
        proving.raise_failure()
        (mark,) = (store.root / "work").glob("*/*")
        raise KeyboardInterrupt
    assert list((store.root / "work").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.name), 0)


def test_a_proof_that_is_killed_is_an_error_and_its_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does where memory has run out."""

    def be_killed(lock: Lock, store: Store, **_: object) -> None:
        with store.work_folder():
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(stage, "prove_once", be_killed)
    store = Store(tmp_path)
    with begin(store) as proving, pytest.raises(ProofError, match="ended with exit code -9") as caught:
        proving.finish()
    assert caught.value.hint is not None and "memory ran out" in caught.value.hint
    assert list((store.root / "work").iterdir()) == []
