"""Partial downloads: whose they are, and who continues them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bundler.make.staging.partial import ORPHAN_SECONDS
from bundler.make.store import Store
from tests.make.test_store import CONTENT, ETAG
from tests.support.process import Child


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_partial_download_of_a_dead_process_is_continued(store: Store) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from bundler.make.store import Store
        with Store(Path(sys.argv[1])).partial(sys.argv[2], 10_000) as partial:
            partial.write(b"first half ")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code), store.root, ETAG], check=False)
    assert killed.returncode == -9
    assert store.partial_bytes(ETAG, len(CONTENT)) == 11
    with store.partial(ETAG, len(CONTENT)) as partial:
        assert partial is not None and partial.size_bytes == 11
        partial.write(b"second")
        assert partial.path.read_bytes() == b"first half second"
    assert len(files_below(store.root)) == 1


def test_what_a_living_process_downloads_is_waited_for(store: Store) -> None:
    code = """
        import sys
        from pathlib import Path
        from bundler.make.store import Store
        from tests.make.test_store import CONTENT, ETAG, StoredBlob, hash_file
        store = Store(Path(sys.argv[1]))
        with store.partial(ETAG, len(CONTENT)) as partial:
            partial.write(CONTENT)
            print("started", flush=True)
            sys.stdin.readline()
            store.adopt(partial.path, StoredBlob.of(ETAG, hash_file(partial.path, "sha256", "blake3", "git_sha1")))
        """
    with Child(
        [sys.executable, "-c", textwrap.dedent(code), store.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout and other.stdin and other.stdout.readline() == "started\n"
        with store.partial(ETAG, len(CONTENT), patience_seconds=0.3) as own:
            assert own is not None and own.size_bytes == 0, (
                "one that does not get on is left alone, and left behind"
            )
        other.stdin.write("\n")
        other.stdin.flush()
        with store.partial(ETAG, len(CONTENT)) as nothing:
            assert nothing is None
    assert store.find_verified(ETAG) is not None


def test_another_machines_partial_download_is_taken_once_it_stands_still(store: Store) -> None:
    foreign = store.root / "partial" / f"{ETAG}.{'f' * 12}-1-0-abcd"
    foreign.write_bytes(b"half")
    with store.partial(ETAG, len(CONTENT), patience_seconds=0) as partial:
        assert partial is not None and partial.size_bytes == 0
    long_ago = time.time() - ORPHAN_SECONDS - 1
    os.utime(foreign, (long_ago, long_ago))
    with store.partial(ETAG, len(CONTENT)) as partial:
        assert partial is not None and partial.size_bytes == 4
    assert not foreign.exists()
