"""`--dry-run`: the room that each stage needs, what would be replaced, and nothing written anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.files import space
from bundler.home.installation.install import install
from bundler.make.delta import Base
from bundler.make.pack import pack
from tests.support.bundles import COMMIT, OTHER_COMMIT, blob_store, lock_of, locked_repo, tree
from tests.support.process import run, script

OLD = {"config.json": b'{"v": 1}', "w.bin": b"w" * 50_000}
NEW = {"config.json": b'{"v": 2}', "w.bin": b"w" * 50_000, "new.bin": b"n" * 30_000}
READY = {"default/0.0.0/h/d.arrow": b"arrow" * 2000}


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path]:
    """A bundle, and a delta to its next state."""
    data = locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared=READY)
    store = blob_store(tmp_path / "store", [*OLD.values(), *NEW.values(), b"d", *READY.values()])
    old, new = tmp_path / "old.tar.zst", tmp_path / "new.tar.zst"
    pack(lock_of(locked_repo("org/m", OLD, commit=COMMIT)), store, old)
    pack(lock_of(locked_repo("org/m", NEW, commit=OTHER_COMMIT), data), store, new, base=Base.open(old))
    return old, new


def everything(*roots: Path) -> list[tuple[str, int, int]]:
    """Every file, folder and link, with when it was changed: even a file made and deleted would show."""
    paths = [path for root in roots for path in [root, *root.rglob("*")]]
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in paths)


def plan(*words: object, code: int = 0) -> Any:
    done = CliRunner().invoke(main, ["install", *map(str, words), "--dry-run", "--json"])
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout)


def test_an_installation_is_planned_and_does_what_the_plan_says(
    bundles: tuple[Path, Path], tmp_path: Path, isolated_environment: Path
) -> None:
    home, (old, new) = tmp_path / "home", bundles
    before = everything(tmp_path, isolated_environment)
    first = plan(old, "--hf-home", home)
    assert everything(tmp_path, isolated_environment) == before and not home.exists()
    assert (first["written_files"], first["written_bytes"], first["replaced"]) == (2, 50_008, None)
    staging, installed = first["rooms"]
    assert (staging["stage"], staging["needed_bytes"]) == ("staging", 0)
    assert (installed["stage"], installed["needed_bytes"]) == ("installed", 50_008 + 2 * 4096)
    assert 0 < installed["free_bytes"] <= shutil.disk_usage(tmp_path).total

    done = install(old, home)
    assert (done.bundle.digest, done.written_bytes) == (first["digest"], first["written_bytes"])
    before = everything(tmp_path, isolated_environment)
    second = plan(new, "--hf-home", home)
    assert everything(tmp_path, isolated_environment) == before
    # The weights are there, and are not counted.
    assert (second["replaced"], second["written_bytes"]) == (first["digest"], 8 + 30_000 + 1 + 10_000)
    assert [room["needed_bytes"] for room in second["rooms"]] == [10_000 + 4096, 30_009 + 3 * 4096]
    done = install(new, home)
    assert (done.bundle.digest, done.replaced) == (second["digest"], second["replaced"])
    assert (done.written_files, done.written_bytes) == (second["written_files"], second["written_bytes"])
    again = plan(new, "--hf-home", home)
    assert (again["written_files"], again["replaced"]) == (0, None)
    assert [room["needed_bytes"] for room in again["rooms"]] == [0, 0]


def test_damaged_content_counts_as_missing(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = install(bundles[0], tmp_path / "home").bundle
    (bundle.snapshot_path("org/m") / "w.bin").resolve().write_bytes(b"x" * 50_000)
    assert plan(bundles[0], "--hf-home", tmp_path / "home")["written_bytes"] == 50_000


def test_the_text_says_the_same(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    install(bundles[0], tmp_path / "home")
    done = CliRunner().invoke(main, ["install", str(bundles[1]), "--dry-run", "--hf-home", str(tmp_path / "home")])
    assert "would write 4 files, 40 kB" in done.stdout
    assert "would replace sha256:" in done.stdout and "keep it for `bundle rollback tiny`" in done.stdout
    assert f"staging    at most 14.1 kB in {tmp_path / 'home'}, " in done.stdout


def test_what_would_be_refused_is_refused_at_once(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["install", str(bundles[1]), "--dry-run", "--hf-home", str(tmp_path / "home")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 6 and "lacks 1 of the files" in done.stderr and not (tmp_path / "home").exists()
    piped = CliRunner().invoke(main, ["install", "-", "--dry-run"])
    assert piped.exit_code == 2 and "name a file" in piped.stderr


def test_too_little_room_ends_with_10_after_the_plan(
    bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda place: usage._replace(free=1000))
    planned = plan(bundles[0], "--hf-home", tmp_path / "home", code=10)
    assert planned["rooms"][1]["free_bytes"] == 1000


@pytest.fixture
def fetch(plain_environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    (tmp_path / "work").mkdir()
    (tmp_path / "small.yaml").rename(tmp_path / "work" / "small.yaml")

    def call(*words: str) -> Any:
        words = ("fetch", "small.yaml", "--json", *words)
        return json.loads(run([script("bundle"), *words], env=plain_environment, cwd=tmp_path / "work").stdout)

    return call


def test_a_fetch_is_planned_stage_by_stage_and_nothing_is_written(
    fetch: Callable[..., Any], tmp_path: Path, isolated_environment: Path
) -> None:
    def rooms(*words: str) -> dict[str, int]:
        before = tree(tmp_path), everything(tmp_path, isolated_environment)
        planned = fetch(*words, "--dry-run")
        assert (tree(tmp_path), everything(tmp_path, isolated_environment)) == before
        needed = {room["stage"]: room["needed_bytes"] for room in planned["rooms"]}
        assert needed["download"] == planned["download_bytes"]
        places = [room["place"] for room in planned["rooms"]]
        assert places == [str(tmp_path / "cache"), str(tmp_path / "cache"), str(tmp_path / "work"), None]
        return needed

    first = rooms()
    assert first["download"] == first["bundle"] == first["installed"] > 1_000_000 and first["staging"] == 0
    made = fetch()
    assert made["replaced"] is None and made["bundle_bytes"] <= first["bundle"]
    # All of it is there now, but for the other machine.
    assert rooms() == {"download": 0, "staging": 0, "bundle": 0, "installed": first["installed"]}
    assert rooms("-o", "other.tar.zst")["bundle"] == first["bundle"]
    assert rooms("--base", "small.tar.zst") == {"download": 0, "staging": 0, "bundle": 0, "installed": 0}

    planned = fetch("--codec", "zstd", "--dry-run")["replaced"]
    replacing = fetch("--codec", "zstd")
    assert planned == replacing["replaced"]
    assert planned == {"paths": ["small.tar.zst"], "digest": made["digest"], "size_bytes": made["bundle_bytes"]}
