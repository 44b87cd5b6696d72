"""Two bundles in one HF_HOME that need one name to be two things."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.errors import ConflictError
from bundler.home.common.conflicts import Held
from bundler.home.home import Home
from bundler.home.installation.install import install
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
def without_symlinks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no symlinks here")

    monkeypatch.setattr(Path, "symlink_to", refuse)


@pytest.fixture
def both(first: Path, second: Path, tmp_path: Path) -> Path:
    """A home with both bundles, `first` in possession of the ref."""
    home = tmp_path / "home"
    install(first, home)
    install(second, home)
    return home


def test_two_bundles_with_one_branch_at_two_commits_stand_side_by_side_each_in_its_view(both: Path) -> None:
    home = Home(both)
    for name, commit in {"first": COMMIT, "second": OTHER_COMMIT}.items():
        bundle = home.bundle(name)
        assert bundle.verify().faults == ()
        assert (bundle.view / REF).read_text() == commit
    assert (both / REF).read_text() == COMMIT


def test_the_installation_says_what_the_shared_view_goes_on_to_show(
    first: Path, second: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert install(first, home).held == ()
    assert install(second, home).held == (Held(REF, "ref main of org/m", OTHER_COMMIT, "first", COMMIT),)
    done = bundle_command("install", second, "--hf-home", home)
    assert "ref main of org/m stays" in done.stderr and "bundle run --bundle second" in done.stderr


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    """A bundle that needs the ref of `first` and `second` only for code that names no revision."""
    repo = locked_repo("org/m", {"p": b"p"}, revision="e" * 40, commit="e" * 40, refs=["main"])
    return tiny_bundle(tmp_path / "pinned", repo, contents=[b"p"], name="pinned")


@pytest.mark.parametrize("symlinks", [True, False])
def test_a_ref_that_no_entry_asked_for_yields_to_one_that_an_entry_did_whoever_came_first(
    pinned: Path, second: Path, tmp_path: Path, request: pytest.FixtureRequest, symlinks: bool
) -> None:
    if not symlinks:
        request.getfixturevalue("without_symlinks")
    home = tmp_path / "home"
    install(pinned, home)
    assert (home / REF).read_text() == "e" * 40
    assert install(second, home).held == ()
    assert (home / REF).read_text() == OTHER_COMMIT
    assert [held.what for held in install(pinned, home).held] == ["ref main of org/m"]
    for name in ("pinned", "second"):
        assert Home(home).bundle(name).verify().faults == ()
    remove("second", home)
    assert (home / REF).read_text() == "e" * 40
    assert Home(home).bundle("pinned").verify().faults == ()


@pytest.mark.usefixtures("without_symlinks")
@pytest.mark.parametrize("how", ["a file", "a stream", "only"])
def test_where_there_are_no_views_the_second_bundle_is_refused_before_it_writes(
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


def test_one_name_for_two_repos_is_another_in_each_view(first: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(first, home)
    other = locked_repo("other/m", {"x": b"x"}, revision="v1", aliases=["m"])
    third = install(tiny_bundle(tmp_path / "3", other, contents=[b"x"], name="third"), home).bundle
    assert third.verify().faults == ()
    assert (third.view / "hub" / "models--m").readlink() == Path("models--other--m")
    assert (home / "hub" / "models--m").readlink() == Path("models--org--m")


def test_a_repo_in_the_place_of_another_repos_alias_is_refused(first: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(first, home)
    before = tree(home)
    itself = locked_repo("m", {"x": b"x"}, revision="v1")
    with pytest.raises(ConflictError, match=r"folder of m: third needs models--m, .*first has models--org--m"):
        install(tiny_bundle(tmp_path / "4", itself, contents=[b"x"], name="third"), home)
    assert tree(home) == before


def test_other_content_of_a_prepared_file_is_in_the_view_of_each(tmp_path: Path) -> None:
    home = tmp_path / "home"
    path = "default/0.0.0/h/d.arrow"
    for name, content in {"first": b"1", "second": b"2"}.items():
        data = locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared={path: content})
        install(tiny_bundle(tmp_path / name, data, contents=[b"d", content], name=name), home)
    for name, content in {"first": b"1", "second": b"2"}.items():
        bundle = Home(home).bundle(name)
        assert bundle.verify().faults == ()
        assert (bundle.view / "datasets" / "org___d" / path).read_bytes() == content
    assert (home / "datasets" / "org___d" / path).read_bytes() == b"1"


def test_an_upgrade_of_the_same_name_moves_its_own_refs(first: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(first, home)
    newer = locked_repo("org/m", {"a": b"b"}, commit=OTHER_COMMIT)
    result = install(tiny_bundle(tmp_path / "new", newer, contents=[b"b"], name="first"), home)
    assert result.moved_refs == ((REF, COMMIT, OTHER_COMMIT),)
    assert result.bundle.verify().ok


def test_an_upgrade_beside_another_bundle_leaves_it_what_it_has(first: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(first, home)
    beside = install(
        tiny_bundle(tmp_path / "b", locked_repo("org/m", {"v": b"v"}), contents=[b"v"], name="beside"), home
    ).bundle
    newer = locked_repo("org/m", {"a": b"b"}, commit=OTHER_COMMIT)
    result = install(tiny_bundle(tmp_path / "new", newer, contents=[b"b"], name="first"), home)
    assert [one.bundle for one in result.held] == ["beside"]
    assert beside.verify().faults == ()
    assert Home(home).bundle("first").verify().faults == ()


@pytest.mark.usefixtures("without_symlinks")
def test_the_command_ends_with_17(first: Path, second: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert bundle_command("install", first, "--hf-home", home).exit_code == 0
    done = bundle_command("install", second, "--hf-home", home)
    assert done.exit_code == 17
    assert done.stderr.startswith("error: bundle second cannot stand beside first")
    assert bundle_command("verify", "first", "--hf-home", home).exit_code == 0


def test_a_removal_gives_a_ref_to_the_bundle_that_came_second(both: Path) -> None:
    remove("first", both)
    assert (both / REF).read_text() == OTHER_COMMIT
    assert Home(both).bundle("second").verify().faults == ()


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
