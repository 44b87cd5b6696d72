"""bundler.home.view: a view shows one generation, or several together, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.errors import ConflictError, OfflineError
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.view.open import open_view
from bundler.home.view.view import build_view
from bundler.plan.lock import LockedRepo
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle, tree

PREPARED = "default/0.0.0/h/d.arrow"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Bundles `a` and `b` share a commit of `org/m`, each with a file of its own; `c` has another commit."""
    made = {
        "a": [locked_repo("org/m", {"s": b"s", "a": b"a"}, aliases=["m"], absent=["none"])],
        "b": [
            locked_repo("org/m", {"s": b"s", "b": b"b"}),
            locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared={PREPARED: b"arrow"}),
        ],
        "c": [locked_repo("org/m", {"c": b"c"}, commit=OTHER_COMMIT)],
    }
    for name, repos in made.items():
        bundle = tiny_bundle(tmp_path / name, *repos, contents=[b"s", b"a", b"b", b"c", b"d", b"arrow"], name=name)
        install(bundle, tmp_path / "home")
    return tmp_path / "home"


def snapshot(root: Path, commit: str = COMMIT) -> dict[str, bytes]:
    folder = root / "hub" / "models--org--m" / "snapshots" / commit
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_view_shows_its_bundle_and_no_neighbours_file(home: Path) -> None:
    view = Home(home).bundle("a").view
    assert snapshot(view) == {"s": b"s", "a": b"a"}
    assert {path.name for path in (view / "hub").iterdir()} == {"models--org--m", "models--m"}
    assert (view / "hub" / "models--m" / "refs" / "main").read_text() == COMMIT
    assert (view / "hub" / "models--org--m" / ".no_exist" / COMMIT / "none").read_bytes() == b""


def test_its_content_is_there_once(home: Path) -> None:
    view = Home(home).bundle("b").view
    blobs = view / "hub" / "models--org--m" / "blobs"
    assert blobs.is_symlink() and blobs.resolve() == (home / "hub" / "models--org--m" / "blobs").resolve()
    prepared = view / "datasets" / "org___d" / PREPARED
    assert prepared.samefile(home / "datasets" / "org___d" / PREPARED)


def test_a_home_that_was_moved_takes_its_views_along(home: Path, tmp_path: Path) -> None:
    moved = home.rename(tmp_path / "elsewhere")
    bundle = Home(moved).bundle("a")
    assert bundle.verify().faults == ()
    assert snapshot(bundle.view) == {"s": b"s", "a": b"a"}


def test_one_bundle_is_read_through_its_own_view(home: Path) -> None:
    bundle = Home(home).bundle("b")
    view = open_view(home, [bundle])
    assert (view.root, view.datasets) == (bundle.view, bundle.view / "datasets")
    # Without prepared datasets what `datasets` makes of other files stays where it always was.
    assert open_view(home, [Home(home).bundle("a")]).datasets == home / "datasets"


def test_several_are_put_together_and_verify_there(home: Path) -> None:
    bundles = [Home(home).bundle("a"), Home(home).bundle("b")]
    view = open_view(home, bundles)
    assert snapshot(view.root) == {"s": b"s", "a": b"a", "b": b"b"}
    for bundle in bundles:
        assert bundle.verify(view=view).faults == ()
    before = tree(view.root)
    assert open_view(home, bundles[::-1]).root == view.root
    assert tree(view.root) == before


def test_for_a_composition_that_is_there_no_lock_is_parsed(home: Path) -> None:
    # Made once; then its names are compared, and remembered.
    for _ in range(3):
        opened = Home(home)
        bundles = [opened.bundle(name, parse=False) for name in ("a", "b")]
        open_view(home, bundles)
    assert ["lock" in bundle.receipt.__dict__ for bundle in bundles] == [False, False]


def test_a_damaged_composition_is_left_to_who_reads_it_and_another_is_made(home: Path) -> None:
    bundles = [Home(home).bundle("a"), Home(home).bundle("b")]
    root = open_view(home, bundles).root
    good = tree(root)
    link = root / "hub" / "models--org--m" / "snapshots" / COMMIT / "s"
    link.unlink()
    link.write_bytes(b"evil")
    damaged = tree(root)
    other = open_view(home, bundles).root
    assert other != root and tree(other) == good
    assert tree(root) == damaged
    assert open_view(home, bundles).root == other


def test_two_that_need_one_ref_at_two_commits_do_not_go_together_and_each_goes_alone(home: Path) -> None:
    a, c = Home(home).bundle("a"), Home(home).bundle("c")
    with pytest.raises(ConflictError) as caught:
        open_view(home, [a, c])
    assert caught.value.exit_code == 17
    assert f"ref main of org/m: a needs {COMMIT}, c needs {OTHER_COMMIT}" in caught.value.message
    bundle = str(Path(sys.executable).with_name("bundle"))
    code = (
        "import os,pathlib; print(pathlib.Path(os.environ['HF_HUB_CACHE'],'models--org--m/refs/main').read_text())"
    )
    for name, commit in {"a": COMMIT, "c": OTHER_COMMIT}.items():
        argv = [bundle, "run", "--hf-home", home, "--bundle", name, "--isolate", "none", "--", sys.executable]
        done = subprocess.run([*argv, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == commit


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (locked_repo("org/m", {"c": b"c"}, commit=OTHER_COMMIT), OTHER_COMMIT),
        (locked_repo("org/m", {"c": b"c"}, revision="v1", commit=OTHER_COMMIT), COMMIT),
        (locked_repo("org/m", {"c": b"c"}, revision=OTHER_COMMIT, commit=OTHER_COMMIT, refs=["main"]), None),
    ],
)
def test_what_is_pinned_by_commit_goes_together_with_any_other_commit(
    tmp_path: Path, other: LockedRepo, shown: str | None
) -> None:
    pinned = locked_repo("org/m", {"a": b"a"}, revision=COMMIT, refs=["main"])
    home = tmp_path / "home"
    for name, repo in {"pinned": pinned, "other": other}.items():
        install(tiny_bundle(tmp_path / name, repo, contents=[b"a", b"c"], name=name), home)
    bundles = [Home(home).bundle("pinned"), Home(home).bundle("other")]
    view = open_view(home, bundles)
    assert snapshot(view.root) == {"a": b"a"} and snapshot(view.root, OTHER_COMMIT) == {"c": b"c"}
    ref = view.root / "hub" / "models--org--m" / "refs" / "main"
    assert (ref.read_text() if ref.exists() else None) == shown
    for bundle in bundles:
        assert bundle.verify(view=view).faults == () and bundle.verify().faults == ()
    assert open_view(home, bundles[::-1]).root == view.root


def test_the_folder_for_compositions_must_be_the_users_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = [Home(home).bundle("a"), Home(home).bundle("b")]
    folder = open_view(home, bundles).root.parent
    folder.chmod(0o777)
    with pytest.raises(OfflineError):
        open_view(home, bundles)


def test_a_file_that_somebody_put_into_a_view_is_set_aside_and_the_view_is_whole_again(home: Path) -> None:
    bundle = Home(home).bundle("a")
    good = tree(bundle.view)
    (bundle.view / "hub" / "models--org--m" / "snapshots" / COMMIT / "chat_template.jinja").write_text(
        "{{ mine }}"
    )
    assert not bundle.verify(view=open_view(home, [bundle])).ok
    build_view(home, "a", bundle.digest, bundle.layout)
    assert tree(bundle.view) == good
    aside = [path for path in (home / "bundles" / "set-aside").rglob("*") if path.name == "chat_template.jinja"]
    assert [path.read_text() for path in aside] == ["{{ mine }}"]


@pytest.fixture
def contested(tmp_path: Path) -> Path:
    """Bundles `x` and `y` go together; `first` came first, and needs the prepared file of `x` to be another."""
    for name, arrow, commit in (("first", b"other", OTHER_COMMIT), ("x", b"arrow", COMMIT)):
        repo = locked_repo(
            "org/d", {"d": b"d"}, kind="dataset", commit=commit, aliases=["d"], prepared={PREPARED: arrow}
        )
        install(tiny_bundle(tmp_path / name, repo, contents=[b"d", arrow], name=name), tmp_path / "home")
    repo = locked_repo("org/y", {"y": b"y"})
    install(tiny_bundle(tmp_path / "y", repo, contents=[b"y"], name="y"), tmp_path / "home")
    return tmp_path / "home"


def test_a_composition_has_the_prepared_files_of_its_bundles_whoever_holds_them_in_the_shared_view(
    contested: Path,
) -> None:
    bundles = [Home(contested).bundle("x"), Home(contested).bundle("y")]
    view = open_view(contested, bundles)
    for bundle in bundles:
        assert bundle.verify(view=view).faults == ()
    assert (contested / "datasets" / "org___d" / PREPARED).read_bytes() == b"other"
    for name in ("org___d", "d"):
        assert (view.datasets / name / PREPARED).read_bytes() == b"arrow"
    # What `datasets` computes stays with the bundle.
    (view.datasets / "org___d" / "default/0.0.0/h/cache-1.arrow").write_bytes(b"computed")
    assert (bundles[0].view / "datasets" / "org___d" / "default/0.0.0/h/cache-1.arrow").read_bytes() == b"computed"


def test_prepared_files_of_one_folder_that_two_bundles_ship_are_put_together(tmp_path: Path) -> None:
    for name in ("a", "b"):
        prepared = {f"default/0.0.0/h/{name}.arrow": name.encode(), "default/0.0.0/h/sub/x": b"x"}
        repo = locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared=prepared)
        contents = [b"d", *prepared.values()]
        install(tiny_bundle(tmp_path / name, repo, contents=contents, name=name), tmp_path / "home")
    bundles = Home(tmp_path / "home").bundles()
    view = open_view(tmp_path / "home", bundles)
    found = {
        name: Path(folder, name).read_bytes()
        for folder, _, names in os.walk(view.datasets, followlinks=True)
        for name in names
    }
    assert found == {"a.arrow": b"a", "b.arrow": b"b", "x": b"x"}
    assert all(bundle.verify(view=view).faults == () for bundle in bundles)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_another_user_reads_through_the_view(home: Path) -> None:
    view = Home(home).bundle("a").view
    for folder in (*home.parents, home):
        if "pytest" in str(folder):
            folder.chmod(folder.stat().st_mode | 0o055)
    path = view / "hub" / "models--m" / "snapshots" / COMMIT / "a"
    done = subprocess.run(["cat", path], user=65534, capture_output=True, check=False)
    assert done.stdout == b"a"
