"""Room and bytes of an installation: a content counts once, and a second name of it not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bundler.errors import SpaceError
from bundler.home.installation.install import install
from bundler.home.installation.plan import plan_install
from tests.support.bundles import locked_repo, tiny_bundle, tree

_NAME_BYTES = 4096
PREPARED = "default/0.0.0/h/d.arrow"


def leave_free(free_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - free_bytes, free_bytes))


def test_a_content_of_two_repos_counts_once_and_not_at_all_where_one_is_there(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    m, n, o = (locked_repo(f"org/{name}", {name: content}, lfs=[name]) for name in "mno")
    home = tmp_path / "home"
    for number, (repos, new_bytes, files) in enumerate([((m, n), 100_000, 2), ((m, n, o), 0, 1)]):
        bundle = tiny_bundle(tmp_path / str(number), *repos, contents=[content])
        plan = plan_install(bundle, home)
        done = install(bundle, home)
        assert (plan.written_files, done.written_files) == (files, files)
        assert (plan.written_bytes, done.written_bytes) == (new_bytes, new_bytes)
        assert sum(room.needed_bytes for room in plan.rooms) == new_bytes + files * _NAME_BYTES
    assert len({path.stat().st_ino for path in (home / "hub").rglob("blobs/*")}) == 1


def test_a_second_name_is_installed_where_there_is_no_room_for_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(100_000)
    m, n = (locked_repo(f"org/{name}", {name: content}, lfs=[name]) for name in "mn")
    home = tmp_path / "home"
    install(tiny_bundle(tmp_path / "0", m, contents=[content]), home)
    leave_free(50_000, monkeypatch)
    assert install(tiny_bundle(tmp_path / "1", m, n, contents=[content]), home).bundle.verify().ok


def test_without_hard_links_copies_of_prepared_files_need_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = os.urandom(100_000)
    repo = locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared={PREPARED: rows})
    bundle = tiny_bundle(tmp_path / "made", repo, contents=[b"d", rows])

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    # Where it waits, in the view and in the shared one.
    leave_free(3 * 100_000, monkeypatch)
    with pytest.raises(SpaceError):
        install(bundle, tmp_path / "home")
    assert tree(tmp_path / "home") == {}
    leave_free(3 * 100_000 + 1 + 2 * _NAME_BYTES, monkeypatch)
    home = tmp_path / "other"
    assert install(bundle, home).bundle.verify().ok
    assert len({path.stat().st_ino for path in home.rglob("*.arrow")}) == 2
