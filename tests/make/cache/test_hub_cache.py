"""Files that an HF cache has are taken from it, hashed like any other, and not downloaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.make.cache import hub_cache
from bundler.make.cache.hub_cache import HubCache
from bundler.make.fetch import blob_path, fetch
from bundler.make.observer import Observer
from bundler.make.room import plan
from bundler.make.store import Store
from bundler.plan.layout import layout
from bundler.plan.lock import Lock
from tests.support.hub import RunningHub
from tests.support.process import run, run_python, script
from tests.support.remote import lock_of, locked, write_repo

WEIGHTS = b"\2\0\0\0\0\0\0\0{}" * 2000


class Notes(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    write_repo(tmp_path / "repos/org/one", {"config.json": b"{}", "model.safetensors": WEIGHTS, "sub/x.txt": b"x"})
    write_repo(tmp_path / "repos/org/two", {"config.json": b'{"two": 2}'})
    with RunningHub(tmp_path / "repos") as hub:
        yield hub


@pytest.fixture
def lock(hub: RunningHub) -> Lock:
    return lock_of(locked(hub.endpoint, "org/one"), locked(hub.endpoint, "org/two"))


@pytest.fixture
def cache(hub: RunningHub, lock: Lock, tmp_path: Path) -> HubCache:
    """The cache of a client that has loaded `org/one`; the Hub has forgotten that."""
    load = "from huggingface_hub import snapshot_download; snapshot_download('org/one')"
    run_python(load, env=hub.environment(tmp_path / "hf"))
    hub.clear()
    return HubCache.open(tmp_path / "hf")


def downloads(hub: RunningHub) -> list[str]:
    return [request.path.split("/")[-1] for request in hub.asked("GET") if "/resolve/" in request.path]


def test_what_the_cache_has_is_not_downloaded(
    hub: RunningHub, lock: Lock, cache: HubCache, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    one, two = plan(lock, store, cache)
    assert (one.missing_bytes, one.cached_bytes, two.cached_bytes) == (0, one.size_bytes, 0)
    before = sorted(path.relative_to(cache.hub) for path in cache.hub.rglob("*"))
    done = fetch(lock, store, cache=cache, endpoint=hub.endpoint)
    assert downloads(hub) == ["config.json"]
    assert (done.cached_files, done.downloaded_files, done.files) == (3, 1, 4)
    assert done.lock.is_complete
    for blob in layout(done.lock).blobs:
        assert blob_path(store)(blob).stat().st_size == blob.size_bytes
    assert sorted(path.relative_to(cache.hub) for path in cache.hub.rglob("*")) == before
    # The store has names of its own: what becomes of the cache is nothing to it.
    shutil.rmtree(cache.hub)
    hub.clear()
    assert fetch(done.lock, store, cache=cache, endpoint=hub.endpoint).downloaded_files == 0
    assert hub.requests == []


def test_a_cache_without_links_serves_too(hub: RunningHub, lock: Lock, cache: HubCache, tmp_path: Path) -> None:
    for path in list(cache.hub.rglob("snapshots/*/*")):
        if path.is_symlink():
            target = path.resolve()
            path.unlink()
            target.replace(path)
    fetch(lock, Store(tmp_path / "store"), cache=cache, endpoint=hub.endpoint)
    assert "model.safetensors" not in downloads(hub)


def test_what_is_damaged_in_the_cache_is_downloaded_and_said(
    hub: RunningHub, lock: Lock, cache: HubCache, tmp_path: Path
) -> None:
    (path,) = cache.hub.rglob("model.safetensors")
    path.resolve().write_bytes(WEIGHTS[:-1] + b"!")
    observer = Notes()
    store = Store(tmp_path / "store")
    done = fetch(lock, store, cache=cache, endpoint=hub.endpoint, observer=observer)
    assert sorted(downloads(hub)) == ["config.json", "model.safetensors"]
    assert [("model" in note or "blobs" in note) and "damaged" in note for note in observer.notes] == [True]
    assert store.path(
        next(f.etag for f in done.lock.repos[0].files if f.path == "model.safetensors")
    ).read_bytes() == (WEIGHTS)
    assert not list((tmp_path / "store" / "work").iterdir())


def test_what_cannot_be_read_is_downloaded_and_said(
    hub: RunningHub, lock: Lock, cache: HubCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(source))

    monkeypatch.setattr(hub_cache, "clone_file", refuse)
    observer = Notes()
    fetch(lock, Store(tmp_path / "store"), cache=cache, endpoint=hub.endpoint, observer=observer)
    assert "model.safetensors" in downloads(hub)
    assert len(observer.notes) == 3


def test_the_command_takes_files_from_the_cache_of_the_client(demo_hub: RunningHub, tmp_path: Path) -> None:
    manifest = tmp_path / "words.yaml"
    manifest.write_text("version: 1\nname: words\ntokenizers:\n  - repo_id: openai-community/gpt2\n")
    load = "from huggingface_hub import snapshot_download; snapshot_download('openai-community/gpt2')"
    run_python(load, env=demo_hub.environment(tmp_path / "hf"))
    environment = {**demo_hub.environment(tmp_path / "other"), "BUNDLE_CACHE": str(tmp_path / "store")}
    words = [script("bundle"), "fetch", manifest, "--json", "--from-cache", tmp_path / "hf"]
    planned = json.loads(run([*words, "--dry-run"], env=environment, cwd=tmp_path).stdout)
    assert planned["download_bytes"] == 0
    assert planned["repos"][0]["cached_bytes"] == planned["repos"][0]["size_bytes"] > 0
    made = run(words, env=environment, cwd=tmp_path)
    found = json.loads(made.stdout)
    assert (found["downloaded_files"], found["cached_files"]) == (0, found["files"])
    assert f"taken from the HF cache: {found['files']} files" in made.stderr
    absent = run([*words[:-1], tmp_path / "absent"], env=environment, cwd=tmp_path, check=False)
    assert absent.returncode == 2
