"""A whole lock into the store: what is asked of the Hub, what is not, and what a killed process leaves behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import IntegrityError, LockError, SpaceError
from bundler.files.digest import hash_file, sha256_bytes
from bundler.make.fetch import FetchResult, blob_path, fetch
from bundler.make.observer import Observer, Stage
from bundler.make.room import count_bytes, plan
from bundler.make.store import Store, StoredBlob
from bundler.plan.layout import layout
from bundler.plan.lock import Lock
from bundler.text.wording import size
from tests.support.bundles import locked_repo
from tests.support.hub import RunningHub
from tests.support.process import Child, run
from tests.support.remote import lock_of, locked, write_repo

BIG = random.Random(1).randbytes(24_000_000)
SHARED = b'{"shared": true}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    root = tmp_path_factory.mktemp("hub")
    small = {f"part{number}.txt": b"text %d\n" % number for number in range(12)}
    write_repo(root / "org" / "one", {"config.json": SHARED, "model.safetensors": BIG, **small})
    write_repo(root / "org" / "two", {"config.json": SHARED, "notes.txt": b"notes"})
    with RunningHub(root) as hub:
        yield hub


@pytest.fixture
def hub(server: RunningHub) -> RunningHub:
    server.clear()
    return server


@pytest.fixture
def lock(hub: RunningHub) -> Lock:
    lock = lock_of(locked(hub.endpoint, "org/one"), locked(hub.endpoint, "org/two"))
    hub.clear()
    return lock


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def downloads(hub: RunningHub) -> list[str]:
    return [request.path.split("/")[-1] for request in hub.asked("GET") if "/resolve/" in request.path]


def test_the_lock_is_completed_and_every_blob_can_be_found(hub: RunningHub, lock: Lock, store: Store) -> None:
    result = fetch(lock, store, endpoint=hub.endpoint)
    assert result.lock.is_complete and result.files == 15
    assert result.received_bytes == result.size_bytes == sum(p.size_bytes for p in plan(lock, store))
    for blob in layout(result.lock).blobs:
        assert sha256_bytes(blob_path(store)(blob).read_bytes()) == blob.sha256


def test_content_that_two_repos_share_is_downloaded_once(hub: RunningHub, lock: Lock, store: Store) -> None:
    fetch(lock, store, endpoint=hub.endpoint)
    assert downloads(hub).count("config.json") == 1


def test_a_second_fetch_asks_the_hub_for_nothing(hub: RunningHub, lock: Lock, store: Store) -> None:
    first = fetch(lock, store, endpoint=hub.endpoint)
    hub.clear()
    second = fetch(first.lock, store, endpoint=hub.endpoint)
    assert hub.requests == [] and second.lock == first.lock
    assert (second.downloaded_files, second.received_bytes) == (0, 0)


def test_a_blob_that_was_damaged_in_the_store_is_fetched_again_and_no_other(
    hub: RunningHub, lock: Lock, store: Store
) -> None:
    fetch(lock, store, endpoint=hub.endpoint)
    (file,) = [file for file in lock.repos[0].files if file.path == "model.safetensors"]
    with store.path(file.etag).open("r+b") as stream:
        stream.seek(12_345_678)
        stream.write(bytes([BIG[12_345_678] ^ 1]))
    hub.clear()
    fetch(lock, store, endpoint=hub.endpoint)
    assert downloads(hub) == ["model.safetensors"]
    assert store.path(file.etag).read_bytes() == BIG


def test_a_plan_tells_what_is_staged_without_asking_the_hub(hub: RunningHub, lock: Lock, store: Store) -> None:
    before = plan(lock, store)
    assert [p.missing_bytes for p in before] == [p.size_bytes for p in before]
    fetch(lock_of(lock.repos[1]), store, endpoint=hub.endpoint)
    hub.clear()
    one, two = plan(lock, store)
    # What both have is counted where it stands first.
    assert (one.staged_bytes, two.missing_bytes, two.staged_bytes) == (len(SHARED), 0, len(b"notes"))
    assert hub.requests == []


def test_a_wrong_body_fails_the_fetch_and_keeps_what_was_right(hub: RunningHub, lock: Lock, store: Store) -> None:
    hub.fault("corrupt", "notes.txt", at=1, times=None)
    with pytest.raises(IntegrityError, match=r"notes\.txt"):
        fetch(lock, store, jobs=1, endpoint=hub.endpoint)
    (bad,) = [file for file in lock.repos[1].files if file.path == "notes.txt"]
    assert not store.path(bad.etag).exists()
    hub.clear()
    assert fetch(lock, store, endpoint=hub.endpoint).lock.is_complete
    assert "model.safetensors" not in downloads(hub), "the largest comes first, and was finished"


def test_too_little_room_stops_it_before_anything_is_asked(
    hub: RunningHub, lock: Lock, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=len(BIG) + 1_000_000))
    # Enough for the downloads, and not for the bundle beside them.
    with pytest.raises(SpaceError, match="48 MB needed, 25 MB free, 23 MB short"):
        fetch(lock, store, endpoint=hub.endpoint, bundle_folder=tmp_path)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("size=4m", "the file system filled up"),
        # Those of the store are there already.
        ("size=64m,nr_inodes=10", "3 more files fit (inodes); nothing was written"),
    ],
)
def test_a_file_system_that_fills_up_is_a_space_error(
    hub: RunningHub, lock: Lock, tmp_path: Path, options: str, said: str
) -> None:
    script = """
        import shutil, sys
        from pathlib import Path
        from bundler.errors import SpaceError
        from bundler.make.fetch import fetch
        from bundler.plan.lock import Lock
        from bundler.make.store import Store
        free = shutil.disk_usage(sys.argv[1])._replace(free=10**12)
        shutil.disk_usage = lambda path: free
        try:
            fetch(Lock.loads(Path(sys.argv[2]).read_text()), Store(Path(sys.argv[1])), endpoint=sys.argv[3])
        except SpaceError as error:
            print(error)
        """
    (tmp_path / "lock").write_text(lock.dumps())
    (tmp_path / "small").mkdir()
    mount = f"mount -t tmpfs -o {options} none '{tmp_path / 'small'}' && exec " + '"$@"'
    # No network namespace: the test's Hub has to be reachable.
    wrapped = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    code = [sys.executable, "-c", textwrap.dedent(script), tmp_path / "small", tmp_path / "lock", hub.endpoint]
    if subprocess.run([*wrapped, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel gives no mount namespace")
    assert said in run([*wrapped, *code]).stdout


def test_one_etag_with_two_sizes_is_refused(lock: Lock, store: Store) -> None:
    one, two = lock.repos
    wrong = replace(two, files=tuple(replace(file, size_bytes=file.size_bytes + 1) for file in two.files))
    with pytest.raises(LockError, match="two contents"):
        fetch(lock_of(one, wrong), store)


def test_each_file_is_reported_once_and_progress_adds_up(hub: RunningHub, lock: Lock, store: Store) -> None:
    class Recorder(Observer):
        def __init__(self) -> None:
            self.total, self.counts, self.files = 0, [0], list[str]()

        def begin(self, stage: Stage, text: str, size_bytes: int = 0) -> None:
            self.stage, self.text, self.total = stage, text, size_bytes

        def progress(self, count: int) -> None:
            self.counts.append(count)

        def file_done(self, repo: object, file: object, *, downloaded: bool) -> None:
            self.files.append(f"{file.path}")  # type: ignore[attr-defined]

    hub.fault("corrupt", "model.safetensors", at=5)
    recorder = Recorder()
    fetch(lock, store, endpoint=hub.endpoint, observer=recorder)
    assert recorder.stage == "fetch"
    assert recorder.text == f"fetching {lock.name}: {size(recorder.total)} to download, 0 B staged in {store.root}"
    assert sum(recorder.counts) == recorder.total and len(recorder.files) == len(set(recorder.files)) == 15


FETCH = """
    import sys
    from pathlib import Path
    from bundler.make.fetch import fetch
    from bundler.plan.lock import Lock
    from bundler.make.store import Store
    print("ready", flush=True)
    result = fetch(Lock.loads(Path(sys.argv[1]).read_text()), Store(Path(sys.argv[2])), endpoint=sys.argv[3], jobs=2)
    print(result.lock.is_complete, flush=True)
    """


def start(lock: Lock, store: Store, hub: RunningHub, tmp_path: Path) -> Child[str]:
    (tmp_path / "lock").write_text(lock.dumps())
    return Child(
        [sys.executable, "-c", textwrap.dedent(FETCH), tmp_path / "lock", store.root, hub.endpoint],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_fetch_that_is_killed_again_and_again_goes_on_where_it_was(
    hub: RunningHub, lock: Lock, store: Store, tmp_path: Path
) -> None:
    dice = random.Random(7)
    (big,) = [file for file in lock.repos[0].files if file.path == "model.safetensors"]
    reached = 0
    for _ in range(6):
        # The big file stands still at some point, so that the kill meets it half-way.
        hub.fault("hang", "model.safetensors", after_bytes=dice.randrange(1_500_000, 5_000_000))
        with start(lock, store, hub, tmp_path) as process:
            assert process.stdout and process.stdout.readline() == "ready\n"
            deadline = time.monotonic() + 60
            while store.partial_bytes(big.etag, len(BIG)) <= reached and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(dice.random() * 0.05)
            process.send_signal(signal.SIGKILL)
        assert store.find(big.etag) is None
        assert store.partial_bytes(big.etag, len(BIG)) > reached
        reached = store.partial_bytes(big.etag, len(BIG))
    with start(lock, store, hub, tmp_path) as process:
        assert process.communicate()[0] == "ready\nTrue\n"

    assert store.find_verified(big.etag) is not None and store.path(big.etag).read_bytes() == BIG
    requests = hub.asked("GET", "model.safetensors")
    ranges = [request.headers["range"] for request in requests if "range" in request.headers]
    starts = [int(text.removeprefix("bytes=").removesuffix("-")) for text in ranges]
    assert len(starts) == len(requests) - 1 and starts == sorted(starts) and starts[-1] == reached
    # A finished file is not asked for again; one that was under way when the process died may be, once a kill.
    finished = [name for name in downloads(hub) if name != "model.safetensors"]
    assert len(finished) <= 14 + 6 * 2
    assert list((store.root / "partial").iterdir()) == []


def test_a_finished_file_is_never_asked_for_again_after_a_kill(
    hub: RunningHub, lock: Lock, store: Store, tmp_path: Path
) -> None:
    hub.fault("hang", "model.safetensors", after_bytes=3_000_000)
    small = [file for repo in lock.repos for file in repo.files if file.path != "model.safetensors"]
    with start(lock, store, hub, tmp_path) as process:
        deadline = time.monotonic() + 60
        while not all(store.find(file.etag) for file in small) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    before = len(hub.requests)
    with start(lock, store, hub, tmp_path) as process:
        assert process.communicate()[0] == "ready\nTrue\n"
    after = [request for request in hub.requests[before:] if request.method == "GET"]
    assert [request.path.split("/")[-1] for request in after] == ["model.safetensors"]
    assert after[0].status == 206


def test_two_processes_that_fetch_the_same_lock_both_end_well(
    hub: RunningHub, lock: Lock, store: Store, tmp_path: Path
) -> None:
    with start(lock, store, hub, tmp_path) as one, start(lock, store, hub, tmp_path) as two:
        assert one.communicate()[0] == two.communicate()[0] == "ready\nTrue\n"
    for repo in lock.repos:
        for file in repo.files:
            assert store.find_verified(file.etag) is not None
    assert sorted(set(downloads(hub))) == sorted({file.path for repo in lock.repos for file in repo.files})
    assert list((store.root / "partial").iterdir()) == []


def test_what_another_process_stored_meanwhile_is_not_counted_as_downloaded(
    hub: RunningHub, lock: Lock, store: Store
) -> None:
    (big,) = [file for file in lock.repos[0].files if file.path == "model.safetensors"]
    small = {file.etag: file for repo in lock.repos for file in repo.files if file != big}
    results: list[FetchResult] = []
    progress = ProgressCount()
    fetching = threading.Thread(
        target=lambda: results.append(fetch(lock, store, jobs=2, endpoint=hub.endpoint, observer=progress))
    )
    other = Store(store.root)
    with other.partial(big.etag, len(BIG)) as partial:
        assert partial is not None
        fetching.start()
        # The largest comes first: once the others are there, it is being waited for.
        while not all(store.find(etag) for etag in small):
            time.sleep(0.01)
        partial.write(BIG)
        other.adopt(partial.path, StoredBlob.of(big.etag, hash_file(partial.path, "sha256", "blake3")))
    fetching.join(timeout=60)
    [result] = results
    assert "model.safetensors" not in downloads(hub)
    received = sum(file.size_bytes for file in small.values())
    assert (result.downloaded_files, result.received_bytes) == (len(small), received)
    assert progress.total == received + len(BIG)


class ProgressCount(Observer):
    def __init__(self) -> None:
        self.total = 0

    def progress(self, count: int) -> None:
        self.total += count


def test_an_interrupt_ends_it_quickly_and_keeps_what_came(
    hub: RunningHub, lock: Lock, store: Store, tmp_path: Path
) -> None:
    (big,) = [file for file in lock.repos[0].files if file.path == "model.safetensors"]
    hub.fault("hang", "model.safetensors", times=None, after_bytes=4_000_000)
    with start(lock, store, hub, tmp_path) as process:
        while store.partial_bytes(big.etag, len(BIG)) < 2_000_000:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        # The Hub is silent and never lets go: only a fetch that does not wait for it ends.
        assert process.wait(timeout=60) != 0
    assert store.partial_bytes(big.etag, len(BIG)) >= 2_000_000


def test_prepared_content_of_two_datasets_takes_its_room_in_a_bundle_once() -> None:
    rows = {"default/0.0.0/h/d.arrow": b"the same rows"}
    repos = [locked_repo(f"org/{name}", {}, kind="dataset", prepared=rows) for name in "de"]
    assert count_bytes(lock_of(*repos), []).bundle == len(b"the same rows")
