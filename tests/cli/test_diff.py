"""`bundle diff`: any two of bundle, lock, receipt and installed generation, as their users call it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.home.installation.install import install
from bundler.home.receipt import receipt_path
from bundler.make.delta import Base
from bundler.make.pack import pack
from bundler.plan.lock import Card, Lock
from tests.support.bundles import COMMIT, OTHER_COMMIT, blob_store, lock_of, locked_repo, tree

OLD = {"config.json": b'{"v": 1}', "same.txt": b"same", "gone.txt": b"gone"}
NEW = {"config.json": b'{"v": 22}', "same.txt": b"same", "new.txt": b"new!!"}
READY = {"default/0.0.0/h/d.arrow": b"arrow" * 200}


def lock(files: dict[str, bytes], commit: str, *, aliases: tuple[str, ...] = ()) -> Lock:
    kept = locked_repo("org/kept", {"k.txt": b"k"}, aliases=aliases)
    data = [locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared=READY)] if commit == COMMIT else []
    return lock_of(locked_repo("org/m", files, commit=commit, lfs=["config.json"]), kept, *data, name="demo")


FIRST, SECOND = lock(OLD, COMMIT), lock(NEW, OTHER_COMMIT, aliases=("k",))


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two states of a bundle in all their forms, the second installed over the first."""
    monkeypatch.chdir(tmp_path)
    store = blob_store(Path("store"), [*OLD.values(), *NEW.values(), b"k", b"d", *READY.values()])
    pack(FIRST, store, Path("one.tar.zst"))
    pack(SECOND, store, Path("two.tar.zst"), base=Base.open(Path("one.tar.zst")))
    Path("one.lock").write_text(FIRST.dumps())
    Path("two.lock").write_text(SECOND.dumps())
    install(Path("one.tar.zst"), Path("home").absolute())
    Path("before.json").write_bytes(receipt_path(Path("home"), "demo").read_bytes())
    Path("demo.json").write_bytes(Path("before.json").read_bytes())
    install(Path("two.tar.zst"), Path("home").absolute())
    return tmp_path


def diff(*words: str) -> Result:
    return CliRunner().invoke(main, ["diff", *words, "--hf-home", "home"])


def found(*words: str) -> Any:
    done = diff(*words, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def older_generation() -> str:
    return f"demo@{json.loads(Path('before.json').read_text())['bundle_digest'][7:15]}"


@pytest.mark.parametrize("first", ["one.tar.zst", "one.lock", "demo.json", "older"])
@pytest.mark.parametrize("second", ["two.tar.zst", "two.lock", "demo"])
def test_all_forms_of_two_states_differ_in_the_same(places: Path, first: str, second: str) -> None:
    before = tree(places)
    value = found(older_generation() if first == "older" else first, second)
    assert tree(places) == before
    assert value["equal"] is False
    assert {(r["before_licenses"], r["after_licenses"]) for r in value["repos"]} == {(None, None)}
    model, kept, data = value["repos"]
    assert (model["status"], model["before_commit"], model["after_commit"]) == ("changed", COMMIT, OTHER_COMMIT)
    assert [(f["status"], f["path"], f["before_bytes"], f["after_bytes"]) for f in model["files"]] == [
        ("changed", "config.json", 8, 9),
        ("removed", "gone.txt", 4, None),
        ("added", "new.txt", None, 5),
    ]
    assert (kept["status"], kept["settings"], kept["files"]) == ("changed", ["aliases"], [])
    assert (data["status"], data["after_commit"], len(data["files"])) == ("removed", None, 2)
    assert [f["is_prepared"] for f in data["files"]] == [False, True]
    counts = [value[f"{which}_{what}"] for which in ("new", "gone", "shared") for what in ("files", "bytes")]
    assert counts == [2, 14, 4, 8 + 4 + 1 + 1000, 2, 5]


def test_the_text_says_it_in_words(places: Path) -> None:
    text = diff("one.tar.zst", "demo").stdout
    assert f"changed    model org/m main: {COMMIT[:12]} → {OTHER_COMMIT[:12]}" in text
    for line in ("  ~ config.json  8 B → 9 B", "  - gone.txt  4 B", "  + new.txt  5 B"):
        assert line in text.splitlines()
    assert f"changed    model org/kept main: {COMMIT[:12]}, aliases differ" in text
    assert "only in the second: 2 contents, 14 B; only in the first: 4 contents, 1.01 kB" in text
    assert "licences: not compared where a lock does not record what the cards claim" in text


def test_licences_are_compared_where_both_locks_record_them(places: Path) -> None:
    for name, license in (("mit", "mit"), ("apache", "apache-2.0")):
        repos = [replace(repo, card=Card(licenses=(license,))) for repo in FIRST.repos]
        Path(f"{name}.lock").write_text(FIRST.with_repos(tuple(repos)).dumps())
    text = diff("mit.lock", "apache.lock").stdout
    assert "  licences: mit → apache-2.0" in text and "not compared" not in text
    changed = found("mit.lock", "apache.lock")["repos"][0]
    assert (changed["before_licenses"], changed["after_licenses"]) == (["mit"], ["apache-2.0"])
    # What one of the two does not know is no difference.
    assert found("one.lock", "mit.lock")["equal"] is True


def test_the_exit_code_tells_equal_from_different_only_when_asked(places: Path) -> None:
    assert diff("two.tar.zst", "demo", "--exit-code").exit_code == 0
    assert "no difference" in diff("two.tar.zst", "two.lock").stdout
    assert diff("one.tar.zst", "two.tar.zst").exit_code == 0
    assert diff("one.tar.zst", "two.tar.zst", "--exit-code").exit_code == 21


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("gone.lock", "one.lock"), 7),
        (("gone.json", "one.lock"), 7),
        (("x/gone.tar.zst", "one.lock"), 7),
        (("absent", "one.lock"), 9),
        (("demo@ffff", "one.lock"), 9),
        (("one.lock", "store"), 9),
    ],
)
def test_what_is_not_there_is_named(places: Path, words: tuple[str, str], code: int) -> None:
    done = diff(*words)
    assert done.exit_code == code, done.stderr
    assert done.stdout == ""


def test_a_lock_before_its_fetch_is_compared_by_what_the_hub_publishes(places: Path) -> None:
    bare = [
        replace(repo, files=tuple(replace(file, sha256=None, blake3=None) for file in repo.files))
        for repo in SECOND.repos
    ]
    Path("bare.lock").write_text(SECOND.with_repos(tuple(bare)).dumps())
    assert not Lock.loads(Path("bare.lock").read_text()).is_complete
    assert found("bare.lock", "two.lock")["equal"] is True
    assert [f["path"] for f in found("one.lock", "bare.lock")["repos"][0]["files"]] == [
        "config.json",
        "gone.txt",
        "new.txt",
    ]
