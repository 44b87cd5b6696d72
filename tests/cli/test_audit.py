"""What an auditor asks of a home: what is installed, since when, by whom and from where; and is it right."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.home.home import Home
from bundler.home.launches import note_launch
from bundler.home.log import LOG_NAME, read_log
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle
from tests.support.keys import make_key
from tests.support.users import ALICE, bundle_as, make_open_folder, needs_root

SHARED = b"shared" * 1000


def bundle_command(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="bundle")


def pack(folder: Path, content: bytes, commit: str, name: str = "tiny") -> Path:
    folder.mkdir(exist_ok=True)
    repo = locked_repo(
        f"org/{name}", {"a": content, "s": SHARED}, commit=commit, aliases=[f"alias-{name}"], licenses=["mit"]
    )
    return tiny_bundle(folder, repo, contents=[content, SHARED], name=name)


@pytest.fixture
def packed(tmp_path: Path) -> list[Path]:
    """An old and a new generation of one bundle, and another bundle."""
    return [
        pack(tmp_path / "old", b"old", COMMIT),
        pack(tmp_path / "new", b"new", OTHER_COMMIT),
        pack(tmp_path / "other", b"other", COMMIT, "other"),
    ]


@pytest.fixture
def home(packed: list[Path], tmp_path: Path) -> Path:
    for path in packed:
        assert bundle_command("install", path, "--hf-home", tmp_path / "home").exit_code == 0
    return tmp_path / "home"


def test_list_tells_commits_aliases_and_for_each_generation_who_installed_it_when_and_from_where(
    home: Path, packed: list[Path]
) -> None:
    value = json.loads(bundle_command("list", "--hf-home", home, "--json").stdout)
    [other, tiny] = value["bundles"]
    assert [one["name"] for one in (other, tiny)] == ["other", "tiny"]
    assert [(e["repo_id"], e["revision"], e["commit"], e["aliases"], e["licenses"]) for e in tiny["entries"]] == [
        ("org/tiny", "main", OTHER_COMMIT, ["alias-tiny"], ["mit"])
    ]
    new, old = tiny["generations"]
    lines = {(line.name, line.digest): line for line in read_log(home)}
    for one, path, is_current in ((new, packed[1], True), (old, packed[0], False)):
        line = lines["tiny", one["digest"]]
        assert (one["installed_at"], one["installed_by"], one["installed_with"]) == (
            line.at,
            line.by,
            line.version,
        )
        assert (one["installed_by_uid"], one["source"], one["is_current"]) == (os.geteuid(), str(path), is_current)
    assert new["digest"] == tiny["digest"] != old["digest"]
    text = bundle_command("list", "--hf-home", home).stdout
    assert (
        f"  installed  {new['digest'][:19]}  {new['installed_at']} by {new['installed_by']} from {packed[1]}"
        in text
    )
    assert (
        f"  kept       {old['digest'][:19]}  {old['installed_at']} by {old['installed_by']} from {packed[0]}"
        in text
    )


def test_list_tells_where_each_entry_was_fetched_and_by_whose_key_each_generation_is_signed(
    tmp_path: Path,
) -> None:
    repo = replace(locked_repo("org/m", {"a": b"a"}), endpoint="https://hub.example.org")
    bundle, home = tiny_bundle(tmp_path, repo, contents=[b"a"]), tmp_path / "home"

    def listed() -> tuple[Any, Any]:
        [value] = json.loads(bundle_command("list", "--hf-home", home, "--json").stdout)["bundles"]
        return value["entries"][0]["endpoint"], value["generations"][0]["signature"]

    assert bundle_command("install", bundle, "--hf-home", home).exit_code == 0
    assert listed() == ("https://hub.example.org", None)
    key = make_key(tmp_path)
    signed = json.loads(bundle_command("sign", bundle, "--key", key.path, "--sequence", 7, "--json").stdout)
    assert bundle_command("install", bundle, "--hf-home", home).exit_code == 0
    _, signature = listed()
    assert (signature["key"], signature["sequence"], signature["problem"]) == (signed["key"], 7, None)
    [kept] = (home / "bundles/generations/tiny").glob("*.sig")
    kept.write_bytes(b"torn")
    _, signature = listed()
    assert signature["key"] is None and str(kept) in signature["problem"]


def test_without_a_log_list_tells_what_the_receipts_do(home: Path) -> None:
    (home / "bundles" / LOG_NAME).unlink()
    done = bundle_command("list", "--hf-home", home, "--json")
    assert done.exit_code == 0
    found = [one for bundle in json.loads(done.stdout)["bundles"] for one in bundle["generations"]]
    assert len(found) == 3
    assert {one["installed_at"] for one in found} == {one["source"] for one in found} == {None}


def test_a_log_that_every_user_may_change_is_not_believed(home: Path) -> None:
    (home / "bundles" / LOG_NAME).chmod(0o666)
    done = bundle_command("list", "--hf-home", home, "--json")
    assert done.exit_code == 6
    [damage] = json.loads(done.stdout)["damaged"]
    assert damage == f"{home}/bundles/{LOG_NAME} is a file that every user may change: mode 0666"
    assert json.loads(done.stdout)["bundles"][0]["generations"][0]["installed_at"] is None
    assert bundle_command("log", "--hf-home", home).exit_code == 6
    assert bundle_command("prune", "--older-than", "1h", "--hf-home", home).exit_code == 6
    assert len(Home(home).generations("tiny", on_damage=lambda error: None)) == 2
    assert bundle_command("run", "--bundle", "tiny", "--hf-home", home, "--", "true").exit_code == 0


def test_a_change_that_the_log_cannot_take_is_told(packed: list[Path], tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "bundles" / LOG_NAME).mkdir(parents=True)
    done = bundle_command("install", packed[0], "--hf-home", home)
    assert done.exit_code == 0
    assert f"{LOG_NAME}: Is a directory: `bundle log` will not show that tiny was changed (install)" in done.stderr


def test_each_change_has_a_line_and_the_lines_before_it_stay(home: Path, packed: list[Path]) -> None:
    log = home / "bundles" / LOG_NAME
    old, new = (one.digest for one in reversed(Home(home).generations("tiny")))
    text = log.read_bytes()

    def changes(*words: object) -> list[tuple[str, str, str]]:
        nonlocal text
        done = bundle_command(*words, "--hf-home", home)
        assert done.exit_code == 0, done.output
        assert log.read_bytes().startswith(text)
        fresh = log.read_bytes().removeprefix(text).splitlines()
        text = log.read_bytes()
        assert all(json.loads(line)["uid"] == os.geteuid() for line in fresh)
        return [(line["action"], line["name"], line["digest"]) for line in map(json.loads, fresh)]

    assert changes("verify", "--all") == changes("list") == changes("install", packed[1]) == []
    assert changes("rollback", "tiny") == [("rollback", "tiny", old)]
    assert changes("rollback", "tiny", new) == [("rollback", "tiny", new)]
    assert changes("prune") == [("prune", "tiny", old)]
    # A launch keeps the generation, and not the name.
    with note_launch(home, [Home(home).bundle("tiny")]):
        assert changes("remove", "tiny") == [("remove", "tiny", new)]
    assert changes("prune") == [("prune", "tiny", new)]
    (home / "bundles" / "tiny.json.unfinished").write_text("")
    assert changes("remove", "tiny") == [("remove", "tiny", "")]
    for path in [home / "bundles" / "other.json", *(home / "bundles" / "generations" / "other").iterdir()]:
        path.write_bytes(b"damaged")
    assert changes("remove", "other") == [("remove", "other", "")]


def test_a_pipe_is_told_from_a_file(
    home: Path, packed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundle_command("install", packed[0].relative_to(tmp_path), "--hf-home", "second").exit_code == 0
    assert [line.source for line in read_log(tmp_path / "second")] == [str(packed[0])]


@needs_root
def test_the_log_tells_who_it_was() -> None:
    for place in make_open_folder():
        made = pack(place / "made", b"a", COMMIT)
        home = place / "home"
        home.mkdir()
        os.chown(home, ALICE, ALICE)
        assert bundle_as(ALICE, "install", made, "--hf-home", home).returncode == 0
        [line] = read_log(home)
        assert (line.uid, line.by.startswith(f"user {ALICE}@")) == (ALICE, True)


def test_verify_all_looks_at_every_generation_and_hashes_shared_content_once(home: Path) -> None:
    done = bundle_command("verify", "--all", "--hf-home", home, "--json")
    assert done.exit_code == 0, done.stderr
    value = json.loads(done.stdout)
    assert (value["ok"], value["errors"]) == (True, [])
    assert [(one["name"], one["is_current"], one["ok"]) for one in value["reports"]] == [
        ("other", True, True),
        ("tiny", True, True),
        ("tiny", False, True),
    ]
    contents = sum(path.stat().st_size for path in (home / "hub").rglob("blobs/*"))
    assert sum(one["hashed_bytes"] for one in value["reports"]) == contents


@pytest.mark.parametrize("words", [["--all"], ["tiny"]])
def test_quiet_says_nothing_of_what_is_right_and_everything_of_what_is_not(home: Path, words: list[str]) -> None:
    done = bundle_command("verify", *words, "--quiet", "--hf-home", home)
    assert (done.exit_code, done.output) == (0, "")
    blob = next(path for path in (home / "hub/models--org--tiny/blobs").iterdir() if path.read_bytes() == b"new")
    blob.write_bytes(b"bad")
    done = bundle_command("verify", *words, "--quiet", "--hf-home", home)
    assert (done.exit_code, done.stdout) == (6, "")
    assert "org/tiny: a: expected blake3" in done.stderr
    assert "other" not in done.stderr


@pytest.mark.parametrize("words", [["--all"], ["tiny"]])
def test_a_second_look_at_a_fault_does_not_hide_what_was_hashed(home: Path, words: list[str]) -> None:
    def hashed() -> list[int]:
        value = json.loads(bundle_command("verify", *words, "--hf-home", home, "--json").stdout)
        return [one["hashed_bytes"] for one in value.get("reports", [value])]

    before = hashed()
    assert sum(before) > 0
    blob = next(path for path in (home / "hub/models--org--tiny/blobs").iterdir() if path.read_bytes() == b"new")
    blob.write_bytes(b"bad")
    assert hashed() == before


def test_without_symlinks_an_older_generation_is_verified_by_its_content(
    packed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: str | Path, target_is_directory: bool = False) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(self))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    home = tmp_path / "home"
    for path in packed[:2]:
        assert bundle_command("install", path, "--hf-home", home).exit_code == 0
    value = json.loads(bundle_command("verify", "--all", "--hf-home", home, "--json").stdout)
    assert [(one["is_current"], one["faults"]) for one in value["reports"]] == [(True, []), (False, [])]
    old = home / "hub/models--org--tiny/snapshots" / COMMIT / "a"
    old.unlink()
    old.write_bytes(b"bad")
    value = json.loads(bundle_command("verify", "--all", "--hf-home", home, "--json").stdout)
    assert [(one["is_current"], one["ok"]) for one in value["reports"]] == [(True, True), (False, False)]


def test_verify_all_goes_on_past_a_damaged_receipt_and_names_it(home: Path) -> None:
    (home / "bundles" / "other.json").write_bytes(b"damaged")
    done = bundle_command("verify", "--all", "--hf-home", home, "--json")
    value = json.loads(done.stdout)
    assert (done.exit_code, value["ok"]) == (6, False)
    assert [(one["name"], one["ok"]) for one in value["reports"]] == [
        ("other", True),
        ("tiny", True),
        ("tiny", True),
    ]
    assert [(one["exit_code"], "other.json" in one["message"]) for one in value["errors"]] == [(6, True)]


@needs_root
def test_verify_all_goes_on_past_what_may_not_be_read() -> None:
    for place in make_open_folder():
        for number, name in enumerate(("one", "two")):
            made = pack(place / name, bytes([number]), COMMIT, name)
            assert bundle_command("install", made, "--hf-home", place / "home").exit_code == 0
        (place / "home/hub/models--org--one/blobs").chmod(0)
        done = bundle_as(ALICE, "verify", "--all", "--json", "--hf-home", place / "home")
        value = json.loads(done.stdout)
        assert (done.returncode, value["ok"]) == (18, False)
        assert [(one["name"], one["ok"]) for one in value["reports"]] == [("two", True)]
        assert [one["exit_code"] for one in value["errors"]] == [18]


def test_verify_all_of_nothing_is_no_success(tmp_path: Path) -> None:
    assert bundle_command("verify", "--all", "--hf-home", tmp_path / "nowhere").exit_code == 9


@pytest.mark.parametrize("words", [[], ["--all", "tiny"]])
def test_verify_takes_a_bundle_or_all(home: Path, words: list[str]) -> None:
    done = bundle_command("verify", *words, "--hf-home", home)
    assert (done.exit_code, "expected a BUNDLE, or --all" in done.stderr) == (2, True)
