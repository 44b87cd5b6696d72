"""bundler.home.exclusive: one process at a time changes what is installed."""

from __future__ import annotations

import errno
import fcntl
import threading
from pathlib import Path

import pytest

from bundler.home.exclusive import lock_home
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.remove import remove
from tests.support.bundles import locked_repo, tiny_bundle, tree


def test_the_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    with lock_home(tmp_path / "a" / "home"):
        assert list(tree(tmp_path)) == ["a/home/bundles/.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["home", "home/bundles"])
def test_a_link_to_nowhere_in_its_place_is_an_error_and_stays(tmp_path: Path, place: str) -> None:
    link = tmp_path / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("nowhere")
    with pytest.raises(FileExistsError) as caught, lock_home(tmp_path / "home"):
        pass
    assert caught.value.filename == str(link)
    assert link.is_symlink()


def test_a_home_that_cannot_be_made_is_an_error_and_not_tried_for_ever() -> None:
    with pytest.raises(FileNotFoundError) as caught, lock_home(Path("/proc/home")):
        pass
    assert str(caught.value.filename).startswith("/proc/home")


def test_a_second_holder_says_that_it_waits_and_comes_after_the_first(tmp_path: Path) -> None:
    order: list[str] = []
    waits = threading.Event()

    def note(text: str) -> None:
        order.append(text)
        waits.set()

    def second() -> None:
        with lock_home(tmp_path, on_note=note):
            order.append("second")

    thread = threading.Thread(target=second)
    with lock_home(tmp_path):
        thread.start()
        assert waits.wait(60)
        order.append("first")
    thread.join()
    assert order == [f"waiting for another `bundle` that installs or removes in {tmp_path}", "first", "second"]


def test_many_holders_never_overlap(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            with lock_home(tmp_path / "home"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
    assert tree(tmp_path) == {}


def test_a_file_system_without_locks_is_named_and_the_work_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    notes: list[str] = []
    done = []
    with lock_home(tmp_path, on_note=notes.append):
        done.append(True)
    assert done == [True]
    assert notes == [
        f"{tmp_path}: its file system has no locks (No locks available): install and remove one bundle at a time there"
    ]


def test_parts_of_one_bundle_that_are_installed_at_once_are_all_in_the_receipt(tmp_path: Path) -> None:
    names = "abcd"
    repos = [locked_repo(f"org/{name}", {"f": name.encode() * 100_000}) for name in names]
    path = tiny_bundle(tmp_path / "made", *repos, contents=[name.encode() * 100_000 for name in names])
    home = tmp_path / "home"
    threads = [threading.Thread(target=install, args=(path, home), kwargs={"only": [f"org/{n}"]}) for n in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    installed = Home(home).bundle("tiny")
    assert [repo.repo_id for repo in installed.lock.repos] == ["org/a", "org/b", "org/c", "org/d"]
    assert installed.left_out == ()
    assert installed.verify().ok


def test_a_removal_waits_for_an_installation(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "made", locked_repo("org/m", {"f": b"f"}), contents=[b"f"])
    home = tmp_path / "home"
    install(path, home)
    waits = threading.Event()
    thread = threading.Thread(target=remove, args=("tiny", home), kwargs={"on_note": lambda text: waits.set()})
    with lock_home(home):
        thread.start()
        assert waits.wait(60)
        assert Home(home).bundle("tiny").verify().ok
    thread.join()
    assert tree(home) == {}
