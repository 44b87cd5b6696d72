"""Manifest to lock as a function: what is asked, what is refused, and that nothing is written unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import LockError, UsageError
from bundler.make.lock import LockMismatchError, LockMode, check_lock, lock_manifest
from bundler.make.observer import Observer
from bundler.plan.lock import Lock
from tests.support.hub import RunningHub
from tests.support.remote import write_repo

MANIFEST = "version: 1\nname: demo\ntokenizers:\n  - repo_id: gpt2\n"
MINILM = "models:\n  - repo_id: sentence-transformers/all-MiniLM-L6-v2\n"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text(MANIFEST)
    return path


def names(manifest: Path) -> list[str]:
    return sorted(path.name for path in manifest.parent.iterdir())


def test_a_manifest_is_resolved_and_nothing_is_written_until_asked(demo_hub: RunningHub, manifest: Path) -> None:
    locked = lock_manifest(manifest, endpoint=demo_hub.endpoint)
    assert (locked.previous, locked.is_new, names(manifest)) == (None, True, ["demo.yaml"])
    assert [repo.repo_id for repo in locked.lock.repos] == ["openai-community/gpt2"]
    locked.write()
    assert Lock.loads(locked.path.read_text()) == locked.lock
    assert names(manifest) == ["demo.lock", "demo.yaml"]


@pytest.mark.parametrize("mode", ["reuse", "insist"])
def test_a_lock_that_fits_is_taken_and_nobody_is_asked(
    demo_hub: RunningHub, manifest: Path, mode: LockMode
) -> None:
    first = lock_manifest(manifest, endpoint=demo_hub.endpoint)
    first.write()
    demo_hub.clear()
    again = lock_manifest(manifest, mode=mode, endpoint=demo_hub.endpoint)
    assert (again.lock, again.is_new, demo_hub.requests) == (first.lock, False, [])
    assert check_lock(manifest) == manifest.with_suffix(".lock")


def test_each_entry_says_where_it_was_resolved_and_goes_on_to_say_so_until_it_changes(
    demo_hub: RunningHub, manifest: Path
) -> None:
    host = demo_hub.endpoint.removeprefix("http://")
    first = lock_manifest(manifest, endpoint=f"http://user:secret@{host}/")
    assert [repo.endpoint for repo in first.lock.repos] == [demo_hub.endpoint]
    first.write()
    again = lock_manifest(manifest, mode="upgrade", endpoint=demo_hub.endpoint.replace("127.0.0.1", "localhost"))
    assert (again.lock, again.is_new) == (first.lock, False)


def test_changes_name_what_was_added_what_stayed_and_what_went(demo_hub: RunningHub, manifest: Path) -> None:
    lock_manifest(manifest, endpoint=demo_hub.endpoint).write()
    manifest.write_text(MANIFEST + MINILM)
    both = lock_manifest(manifest, endpoint=demo_hub.endpoint)
    both.write()
    manifest.write_text(MANIFEST.replace("tokenizers:\n  - repo_id: gpt2\n", MINILM))
    last = lock_manifest(manifest, endpoint=demo_hub.endpoint)
    gpt2, minilm = (repo.commit for repo in both.lock.repos)
    assert [(c.status, c.previous_commit, c.commit) for c in both.changes()] == [
        ("unchanged", gpt2, gpt2),
        ("added", None, minilm),
    ]
    assert [(c.status, c.previous_commit, c.commit) for c in last.changes()] == [
        ("unchanged", minilm, minilm),
        ("removed", gpt2, None),
    ]


def test_what_is_insisted_on_must_be_there_and_fit(manifest: Path) -> None:
    with pytest.raises(LockMismatchError) as missing:
        lock_manifest(manifest, mode="insist")
    assert missing.value.differences == ("there is no lock yet",)
    other = Lock(name="other", manifest_sha256="0" * 64, repos=()).dumps()
    manifest.with_suffix(".lock").write_text(other)
    with pytest.raises(LockMismatchError) as stale:
        check_lock(manifest)
    assert stale.value.differences == (
        "name: the manifest says demo, the lock other",
        "tokenizers[0] (gpt2) at main: not in the lock",
    )
    assert manifest.with_suffix(".lock").read_text() == other


def test_a_damaged_lock_is_replaced_by_upgrade_only(demo_hub: RunningHub, manifest: Path) -> None:
    manifest.with_suffix(".lock").write_text("{")
    with pytest.raises(LockError) as refused:
        lock_manifest(manifest, endpoint=demo_hub.endpoint)
    assert str(refused.value.hint).startswith("bundle lock --upgrade")
    assert demo_hub.requests == []
    locked = lock_manifest(manifest, mode="upgrade", endpoint=demo_hub.endpoint)
    assert locked.previous is None
    assert locked.warnings[0].startswith(f"{manifest.with_suffix('.lock')} is damaged and is replaced")


def test_a_lock_is_not_put_over_its_manifest(manifest: Path) -> None:
    link = manifest.with_name("link.lock")
    link.symlink_to(manifest)
    for path in (manifest, link):
        with pytest.raises(UsageError):
            lock_manifest(manifest, path=path)


def test_what_is_left_out_is_told_at_once_and_kept(manifest: Path, tmp_path: Path) -> None:
    class Listener(Observer):
        def __init__(self) -> None:
            self.warnings: list[str] = []

        def warn(self, text: str) -> None:
            self.warnings.append(text)

    listener = Listener()
    write_repo(tmp_path / "hub" / "org" / "coded", {"config.json": b"{}", "model.py": b"pass\n"})
    manifest.write_text("version: 1\nname: demo\ntokenizers:\n  - repo_id: org/coded\n    allow_patterns: ['*']\n")
    with RunningHub(tmp_path / "hub") as hub:
        locked = lock_manifest(manifest, endpoint=hub.endpoint, observer=listener)
    (warning,) = locked.warnings
    assert "model.py" in warning and "trust_remote_code" in warning
    assert listener.warnings == [warning]
