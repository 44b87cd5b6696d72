"""bundler.home.installed: receipts, snapshot folders, removal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundler.errors import IntegrityError, NotInstalledError
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.receipt import read_receipt, receipt_path
from bundler.home.remove import remove
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle, tree

FILES = {"config.json": b"{}", "w.safetensors": os.urandom(2000)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    model = locked_repo("org/m", FILES, aliases=["m"])
    install(tiny_bundle(tmp_path / "a", model, contents=FILES.values(), name="first"), tmp_path / "home")
    return tmp_path / "home"


def test_a_receipt_gives_back_what_was_installed(home: Path) -> None:
    bundle = Home(home).bundle("first")
    assert bundle.lock.repos[0].repo_id == "org/m"
    assert [b.name for b in Home(home).bundles()] == ["first"]
    assert bundle.snapshot_path("m") == bundle.snapshot_path("org/m")
    assert (bundle.snapshot_path("m") / "config.json").read_bytes() == b"{}"


def test_what_a_notebook_shows_of_a_bundle_is_one_line(home: Path) -> None:
    bundle = Home(home).bundle("first")
    assert repr(bundle) == f"InstalledBundle(hf_home={home!r}, digest={bundle.digest!r}, left_out=())"


def test_every_changed_byte_of_a_receipt_is_found(home: Path) -> None:
    path = receipt_path(home, "first")
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            read_receipt(path)
    path.write_bytes(content + b" ")
    with pytest.raises(IntegrityError):
        read_receipt(path)


def test_a_receipt_under_another_name_is_refused(home: Path) -> None:
    receipt_path(home, "first").rename(receipt_path(home, "second"))
    with pytest.raises(IntegrityError, match="'first'"):
        Home(home).bundle("second")


def test_an_unknown_name_is_answered_with_close_ones(home: Path) -> None:
    with pytest.raises(NotInstalledError, match="did you mean 'first'"):
        Home(home).bundle("frist")
    with pytest.raises(NotInstalledError, match="none is installed"):
        Home(home.parent / "elsewhere").bundle("first")
    with pytest.raises(NotInstalledError, match="no bundle name"):
        Home(home).bundle("../first")
    with pytest.raises(NotInstalledError, match="did you mean 'org/m'"):
        Home(home).bundle("first").snapshot_path("org/n")


def test_a_damaged_receipt_of_one_bundle_does_not_hide_the_others(home: Path, tmp_path: Path) -> None:
    install(tiny_bundle(tmp_path / "b", locked_repo("org/n", {"x": b"x"}), contents=[b"x"], name="second"), home)
    receipt_path(home, "first").write_bytes(b"damaged")
    with pytest.raises(IntegrityError):
        Home(home).bundles()
    damaged: list[Exception] = []
    assert [b.name for b in Home(home).bundles(on_damage=damaged.append)] == ["second"]
    assert len(damaged) == 1


def test_removal_leaves_an_empty_cache(home: Path) -> None:
    assert remove("first", home).freed_bytes == 2002
    assert tree(home) == {}
    with pytest.raises(NotInstalledError):
        remove("first", home)


def test_removal_keeps_what_another_bundle_uses(home: Path, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "vocab.txt": b"v"}
    second = tiny_bundle(tmp_path / "b", locked_repo("org/m", files), contents=files.values(), name="second")
    other = install(second, home).bundle
    assert remove("first", home).freed_bytes == 2000
    assert other.verify().faults == ()
    snapshot = other.snapshot_path("org/m")
    assert sorted(path.name for path in snapshot.iterdir()) == ["config.json", "vocab.txt"]
    assert not (home / "hub" / "models--m").is_symlink()


def test_removal_keeps_blobs_that_the_users_own_snapshots_link_to(home: Path) -> None:
    first = Home(home).bundle("first")
    blob = (first.snapshot_path("m") / "w.safetensors").resolve()
    own = home / "hub" / "models--org--m" / "snapshots" / OTHER_COMMIT / "w.safetensors"
    own.parent.mkdir(parents=True)
    own.symlink_to(f"../../blobs/{blob.name}")
    remove("first", home)
    assert own.read_bytes() == FILES["w.safetensors"]
    assert not (home / "hub" / "models--org--m" / "refs").exists()


def test_removal_stops_where_another_receipt_is_damaged(home: Path, tmp_path: Path) -> None:
    install(tiny_bundle(tmp_path / "b", locked_repo("org/m", {"x": b"x"}), contents=[b"x"], name="second"), home)
    receipt_path(home, "second").write_bytes(b"damaged")
    before = tree(home)
    with pytest.raises(IntegrityError):
        remove("first", home)
    assert tree(home) == before


def test_removal_leaves_a_ref_that_names_another_commit(home: Path) -> None:
    ref = home / "hub" / "models--org--m" / "refs" / "main"
    ref.write_text(OTHER_COMMIT)
    remove("first", home)
    assert ref.read_text() == OTHER_COMMIT
    assert not (home / "hub" / "models--org--m" / "snapshots" / COMMIT).exists()
