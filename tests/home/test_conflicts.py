"""Two bundles in one HF_HOME that need one name to be two things."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.errors import ConflictError
from bundler.home import install as install_module
from bundler.home.home import Home
from bundler.home.install import install
from bundler.home.remove import remove
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle, tree

REF = "hub/models--org--m/refs/main"


def bundle_command(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="bundle")


@pytest.fixture
def first(tmp_path: Path) -> Path:
    repo = locked_repo("org/m", {"a": b"a"}, aliases=["m"])
    return tiny_bundle(tmp_path / "1", repo, contents=[b"a"], name="first")


@pytest.fixture
def second(tmp_path: Path) -> Path:
    repos = [locked_repo("org/m", {"a": b"b"}, commit=OTHER_COMMIT), locked_repo("org/n", {"n": b"n"})]
    return tiny_bundle(tmp_path / "2", *repos, contents=[b"b", b"n"], name="second")


@pytest.fixture
def both(first: Path, second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with both bundles, as it could be written before conflicts were refused."""
    home = tmp_path / "home"
    install(first, home)
    with monkeypatch.context() as patch:
        patch.setattr(install_module, "check_conflicts", lambda *_: None)
        install(second, home)
    return home


@pytest.mark.parametrize("how", ["a file", "a stream", "only"])
def test_a_second_bundle_with_another_commit_of_a_ref_is_refused_before_it_writes(
    first: Path, second: Path, tmp_path: Path, how: str
) -> None:
    home = tmp_path / "home"
    installed = install(first, home).bundle
    before = tree(home)
    with pytest.raises(ConflictError) as caught:
        if how == "a stream":
            install(io.FileIO(second), home)
        else:
            install(second, home, only=["org/m"] if how == "only" else [])
    assert str(caught.value) == (
        "bundle second cannot stand beside first in one HF_HOME; nothing was installed:\n"
        f"  ref main of org/m: second needs {OTHER_COMMIT}, installed bundle first has {COMMIT} ({REF})\n"
        "hint: install second into another cache with --hf-home; or `bundle remove first` first; or lock both "
        "manifests at the same commit (`bundle lock`, `revision:`) and fetch again"
    )
    assert tree(home) == before
    assert installed.verify().ok


def test_the_part_of_a_bundle_that_conflicts_with_nothing_can_be_installed(
    first: Path, second: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    installed = install(first, home).bundle
    assert install(second, home, only=["org/n"]).bundle.verify().ok
    assert installed.verify().ok


def test_one_name_for_two_repos_is_refused(first: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(first, home)
    other = locked_repo("other/m", {"x": b"x"}, revision="v1", aliases=["m"])
    with pytest.raises(ConflictError, match=r"other name models--m: third needs models--other--m, .*first has"):
        install(tiny_bundle(tmp_path / "3", other, contents=[b"x"], name="third"), home)
    itself = locked_repo("m", {"x": b"x"}, revision="v1")
    with pytest.raises(ConflictError, match=r"folder of m: third needs models--m, .*first has models--org--m"):
        install(tiny_bundle(tmp_path / "4", itself, contents=[b"x"], name="third"), home)


def test_other_content_of_a_prepared_file_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name, content in {"first": b"1", "second": b"2"}.items():
        data = locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared={"default/0.0.0/h/d.arrow": content})
        path = tiny_bundle(tmp_path / name, data, contents=[b"d", content], name=name)
        if name == "first":
            install(path, home)
    with pytest.raises(ConflictError, match="prepared file of org/d: second needs sha256:"):
        install(path, home)


def test_an_upgrade_of_the_same_name_moves_its_own_refs(first: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(first, home)
    newer = locked_repo("org/m", {"a": b"b"}, commit=OTHER_COMMIT)
    result = install(tiny_bundle(tmp_path / "new", newer, contents=[b"b"], name="first"), home)
    assert result.moved_refs == ((REF, COMMIT, OTHER_COMMIT),)
    assert result.bundle.verify().ok


def test_an_upgrade_that_would_break_another_bundle_is_refused(first: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(first, home)
    beside = install(
        tiny_bundle(tmp_path / "b", locked_repo("org/m", {"v": b"v"}), contents=[b"v"], name="beside"), home
    ).bundle
    newer = locked_repo("org/m", {"a": b"b"}, commit=OTHER_COMMIT)
    with pytest.raises(ConflictError, match="installed bundle beside has"):
        install(tiny_bundle(tmp_path / "new", newer, contents=[b"b"], name="first"), home)
    assert beside.verify().ok
    assert Home(home).bundle("first").verify().ok


def test_the_command_ends_with_17(first: Path, second: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert bundle_command("install", first, "--hf-home", home).exit_code == 0
    done = bundle_command("install", second, "--hf-home", home)
    assert done.exit_code == 17
    assert done.stderr.startswith("error: bundle second cannot stand beside first")
    assert bundle_command("verify", "first", "--hf-home", home).exit_code == 0


def test_verify_says_which_bundle_took_a_ref_and_its_hint_mends_it(both: Path) -> None:
    done = bundle_command("verify", "first", "--hf-home", both, "--json")
    assert done.exit_code == 6
    assert json.loads(done.stdout)["faults"] == [
        {
            "kind": "changed",
            "path": REF,
            "detail": f"expected {COMMIT}, found {OTHER_COMMIT}, which bundle second needs",
        }
    ]
    assert (
        "hint: two bundles cannot share a ref at two commits: `bundle remove second` gives it back" in done.stderr
    )
    assert bundle_command("remove", "second", "--hf-home", both).exit_code == 0
    assert bundle_command("verify", "first", "--hf-home", both).exit_code == 0


def test_removal_of_the_bundle_that_lost_a_ref_leaves_it_with_the_other(both: Path) -> None:
    remove("first", both)
    assert (both / REF).read_text() == OTHER_COMMIT
    assert Home(both).bundle("second").verify().ok


def test_a_damaged_ref_is_shown_as_text_in_one_line(first: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    installed = install(first, home).bundle
    (home / REF).write_bytes(COMMIT.encode() + b"\n")
    assert [fault.detail for fault in installed.verify().faults] == [f"expected {COMMIT}, found '{COMMIT}\\n'"]


def test_beside_a_damaged_receipt_the_installation_goes_on_and_says_what_it_cannot_know(
    first: Path, second: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    install(first, home)
    (home / "bundles" / "first.json").write_bytes(b"damaged")
    notes: list[str] = []
    install(second, home, on_note=notes.append)
    assert len(notes) == 1
    assert notes[0].endswith("what it needs beside second cannot be told")
