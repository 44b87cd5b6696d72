"""Partial downloads: whose they are, and who continues them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bundler.files.owner import Owner
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


@pytest.mark.parametrize("how", ["link", "second name", "pipe", "another user's"])
def test_what_another_user_put_there_is_neither_written_nor_waited_for(
    store: Store, tmp_path: Path, how: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    # Of a process of an earlier boot; the other is of a living one.
    dead = store.root / "partial" / f"{ETAG}.{Owner.current().system}-00000000-1-1-00000000"
    alive = store.root / "partial" / f"{ETAG}.{Owner.current().mark}-00000000"
    for planted in (dead, alive):
        if how == "link":
            planted.symlink_to(victim)
        elif how == "second name":
            planted.hardlink_to(victim)
        elif how == "pipe":
            os.mkfifo(planted)
        else:
            if os.geteuid():
                pytest.skip("only root can give a file away")
            planted.write_text("theirs")
            os.chown(planted, 60101, 60101)
    assert store.partial_bytes(ETAG, len(CONTENT)) == 0
    with store.partial(ETAG, len(CONTENT)) as partial:
        assert partial is not None and partial.size_bytes == 0 and partial.path not in (dead, alive)
        partial.write(CONTENT)
        assert victim.read_text() == "mine" and partial.path.read_bytes() == CONTENT
    assert os.path.lexists(dead) and os.path.lexists(alive)


def test_a_link_that_nobody_continues_is_forgotten_and_what_it_leads_to_stays(
    store: Store, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    planted = store.root / "partial" / f"{ETAG}.{Owner.current().system}-00000000-1-1-00000000"
    planted.symlink_to(victim)
    os.utime(planted, (0, 0), follow_symlinks=False)
    store.sweep()
    assert not os.path.lexists(planted) and victim.read_text() == "mine"
