"""bundler.home.common.journal: what a failed installation leaves is used or deleted by the next, or by a removal."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.errors import DamagedError
from bundler.format.reader import BundleReader
from bundler.home.common.journal import (
    clear_unfinished,
    list_unfinished,
    read_unfinished,
    unfinished_path,
)
from bundler.home.installation.install import install
from bundler.home.remove import remove
from bundler.text.wording import counted
from tests.support.bundles import OTHER_COMMIT, locked_repo, tiny_bundle, tree

FILES = {name: random.Random(name).randbytes(3 << 20) for name in ("a.bin", "b.bin", "c.bin")}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "made", locked_repo("org/m", FILES), contents=FILES.values())


@pytest.fixture
def damaged(bundle: Path, tmp_path: Path) -> Path:
    """The same bundle with a damaged chunk near its end."""
    with BundleReader(bundle) as reader:
        last = max((reader.member_of(blob) for blob in reader.plan.layout.blobs), key=lambda m: m.offset)
        number = reader.chunk_span(last.offset, last.offset + 1)[0]
        stored = reader.stored_chunk(number)
    content = bundle.read_bytes()
    start = content.index(stored)
    path = tmp_path / "damaged.tar.zst"
    path.write_bytes(content[: start + 1000] + bytes([content[start + 1000] ^ 1]) + content[start + 1001 :])
    return path


def blobs(home: Path) -> list[Path]:
    return sorted((home / "hub").glob("*/blobs/*"))


def test_a_failed_installation_says_what_it_keeps_and_where_that_is_listed(damaged: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = CliRunner().invoke(main, ["install", str(damaged), "--hf-home", str(home)])
    assert done.exit_code == 6
    kept = blobs(home)
    assert 0 < len(kept) < 3
    listed = read_unfinished(home, "tiny")
    assert {path.relative_to(home).as_posix() for path in kept} < set(listed)
    assert len(listed) == 3
    assert (
        f"note: kept for the next try: {counted(len(kept), 'verified file')} of tiny; `bundle remove tiny` deletes "
        f"what nothing else uses of them ({unfinished_path(home, 'tiny')} lists them)\n"
    ) in done.stderr
    shown = CliRunner().invoke(main, ["list", "--hf-home", str(home), "--json"])
    assert json.loads(shown.stdout)["unfinished"] == ["tiny"]
    assert "note: an installation of tiny did not end; install it again, or `bundle remove tiny`" in shown.stderr


def test_the_next_installation_uses_what_is_kept_and_ends_the_list(
    bundle: Path, damaged: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with pytest.raises(DamagedError, match="damaged"):
        install(damaged, home)
    kept = len(blobs(home))
    assert install(bundle, home).written_files == 3 - kept
    assert list_unfinished(home) == []
    install(bundle, tmp_path / "fresh")
    assert tree(home) == tree(tmp_path / "fresh")


def test_another_version_deletes_what_the_failed_one_left(damaged: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(DamagedError, match="damaged"):
        install(damaged, home)
    newer = tiny_bundle(
        tmp_path / "newer", locked_repo("org/m", {"x": b"x"}, commit=OTHER_COMMIT), contents=[b"x"]
    )
    install(newer, home)
    install(newer, tmp_path / "fresh")
    assert tree(home) == tree(tmp_path / "fresh")


def test_a_removal_deletes_what_a_failed_installation_left(damaged: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(DamagedError, match="damaged"):
        install(damaged, home)
    size = sum(path.stat().st_size for path in blobs(home))
    assert remove("tiny", home).freed_bytes == size > 0
    assert tree(home) == {}


def test_what_others_use_by_now_is_not_deleted(damaged: Path, bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(DamagedError, match="damaged"):
        install(damaged, home)
    first, second = blobs(home)[:2] if len(blobs(home)) > 1 else (blobs(home)[0], None)
    own = home / "hub/models--org--m/snapshots" / OTHER_COMMIT / "mine"
    own.parent.mkdir(parents=True)
    own.symlink_to(f"../../blobs/{first.name}")
    remove("tiny", home)
    assert blobs(home) == [first]
    assert second is None or not second.exists()


def test_a_list_that_names_other_files_deletes_none_of_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "bundles").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"x")
    (home / "token").write_bytes(b"x")
    unfinished_path(home, "tiny").write_text("../outside\ntoken\nhub/../blobs/token\n/etc/passwd\n")
    assert clear_unfinished(home, "tiny", keep=[]) == 0
    assert sorted(tree(tmp_path)) == ["home/token", "outside"]


def test_an_upgrade_beside_a_damaged_receipt_deletes_nothing_and_says_what_it_cannot_know(
    bundle: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    install(bundle, home)
    other = tiny_bundle(tmp_path / "b", locked_repo("org/n", {"n": b"n"}), contents=[b"n"], name="other")
    install(other, home)
    (home / "bundles" / "other.json").write_bytes(b"damaged")
    before = tree(home)
    newer = tiny_bundle(
        tmp_path / "newer", locked_repo("org/m", {"x": b"x"}, commit=OTHER_COMMIT), contents=[b"x"]
    )
    notes: list[str] = []
    assert install(newer, home, on_note=notes.append).bundle.verify().ok
    assert len(notes) == 1 and "other.json: receipt was changed" in notes[0]
    names_that_move = {"bundles/tiny.json", "bundles/tiny.json.found", "hub/models--org--m/refs/main"}
    assert {path for path, value in before.items() if tree(home).get(path) != value} <= names_that_move
