"""The client's own cache tools on an installed home: `scan_cache_dir`, `hf cache ls`, `verify`, `rm` and `prune`.

They know nothing of bundles. What they delete is named by `bundle verify` or by a rollback, and an installation brings
it back; in a view they find names only, and no content. The client picks a repo by commit, and so of a repo and its
alias either one: what is tested here holds for both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from bundler.errors import IntegrityError
from bundler.home.generations.rollback import rollback
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.remove import remove
from tests.home.generations.conftest import NEW_FILES, OLD_FILES
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle, tree
from tests.support.hub import RunningHub


def hf_cache(hub: Path, *words: str, **more: str) -> str:
    """Run `hf cache` on a hub folder; return what it says."""
    argv = [Path(sys.executable).with_name("hf"), "cache", *words]
    env = {**os.environ, "HF_HUB_CACHE": str(hub), "HF_HOME": str(hub), "HF_HUB_DISABLE_UPDATE_CHECK": "1", **more}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def size_of(*versions: dict[str, bytes]) -> int:
    """Return the size of the content of one or more commits, what they share once."""
    return sum(map(len, {content for files in versions for content in files.values()}))


def test_the_client_counts_content_once_that_commits_and_other_names_share(
    home: Path,
) -> None:
    found = scan_cache_dir(home / "hub")
    both = size_of(OLD_FILES, NEW_FILES)
    assert not found.warnings
    assert {repo.repo_id: repo.size_on_disk for repo in found.repos} == {"org/m": both, "m": both}
    assert {revision.commit_hash for repo in found.repos for revision in repo.revisions} == {COMMIT, OTHER_COMMIT}
    assert found.size_on_disk == both
    assert "model/org/m" in hf_cache(home / "hub", "ls")


def test_in_a_view_the_client_sees_that_generation_and_no_other(home: Path) -> None:
    for bundle, files in zip(Home(home).generations("demo"), (NEW_FILES, OLD_FILES), strict=True):
        found = scan_cache_dir(bundle.view / "hub")
        assert not found.warnings
        assert {repo.repo_id: repo.size_on_disk for repo in found.repos} == {
            "org/m": size_of(files),
            "m": size_of(files),
        }
        assert [len(repo.revisions) for repo in found.repos] == [1, 1]
        assert found.size_on_disk == size_of(files)


def test_the_client_verifies_what_is_installed_under_each_name_and_sees_damage(
    home: Path, new: Path, tmp_path: Path
) -> None:
    install(new, tmp_path / "served")
    current = Home(home).bundle("demo")
    with RunningHub(tmp_path / "served") as served:
        for hub in (home / "hub", current.view / "hub"):
            for name in ("org/m", "m"):
                said = hf_cache(hub, "verify", name, HF_ENDPOINT=served.endpoint)
                assert f"Verified {len(NEW_FILES)} file(s)" in said
        blob = (current.snapshot_path("m") / "w").resolve()
        blob.write_bytes(blob.read_bytes()[::-1])
        with pytest.raises(AssertionError, match="Checksum verification failed"):
            hf_cache(current.view / "hub", "verify", "m", HF_ENDPOINT=served.endpoint)
    assert not current.verify().ok


@pytest.mark.parametrize("target", ["model/m", "model/org/m", COMMIT, OTHER_COMMIT])
def test_what_the_client_deletes_is_noticed_and_an_installation_brings_it_back(
    home: Path,
    old: Path,
    new: Path,
    target: str,
) -> None:
    before = tree(home)
    hf_cache(home / "hub", "rm", target, "--yes")
    lost = {path for path in before if path not in tree(home)}
    [_, older] = Home(home).generations("demo")
    if any(OTHER_COMMIT in path or "refs/main" in path for path in lost):
        assert not Home(home).bundle("demo").verify().ok
    elif any("/blobs/" in path for path in lost):
        with pytest.raises(IntegrityError):
            rollback("demo", home, older.digest)
    install(old, home)
    install(new, home)
    assert Home(home).bundle("demo").verify().faults == ()
    assert tree(home) == before


@pytest.mark.parametrize("target", ["model/m", OTHER_COMMIT])
def test_what_the_client_deletes_in_a_view_is_names_and_no_content(
    home: Path,
    new: Path,
    target: str,
) -> None:
    before, current = tree(home), Home(home).bundle("demo")
    hf_cache(current.view / "hub", "rm", target, "--yes")
    assert {path for path in before if path not in tree(home)} <= {
        path for path in before if path.startswith("bundles/views/")
    }
    assert not current.verify().ok
    # By its receipt alone: all content is there.
    rollback("demo", home, current.digest)
    assert tree(home) == before


def test_the_clients_prune_spares_what_a_bundle_has(home: Path, tmp_path: Path) -> None:
    pinned = locked_repo("org/m", {"p": b"pinned"}, revision="a" * 40, commit="a" * 40)
    install(tiny_bundle(tmp_path / "pinned", pinned, contents=[b"pinned"], name="pinned"), home)
    before = tree(home)
    refs = {ref for repo in scan_cache_dir(home / "hub").repos for one in repo.revisions for ref in one.refs}
    assert {ref for ref in refs if ref.startswith("bundle/pinned/")} == {"bundle/pinned/aaaaaaaaaaaa"}
    hf_cache(home / "hub", "prune", "--yes")
    assert tree(home) == before
    rollback("demo", home)
    assert all(Home(home).bundle(name).verify().ok for name in ("demo", "pinned"))


def test_where_a_branch_has_the_name_of_their_refs_an_installation_does_without(old: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    branch = home / "hub/models--org--m/refs/bundle"
    branch.parent.mkdir(parents=True)
    branch.write_text(COMMIT)
    assert install(old, home).bundle.verify().ok
    assert branch.read_text() == COMMIT
    remove("demo", home)
    assert branch.read_text() == COMMIT


@pytest.mark.parametrize("way", ["bundle", "bundle/demo"])
def test_nothing_is_written_or_deleted_where_a_link_leads(old: Path, tmp_path: Path, way: str) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    (outside / "demo").mkdir(parents=True)
    for path in (outside / COMMIT[:12], outside / "demo" / COMMIT[:12]):
        path.write_text("mine")
    link = home / "hub/models--org--m/refs" / way
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    before = tree(outside)
    assert install(old, home).bundle.verify().ok
    remove("demo", home)
    assert tree(outside) == before and link.is_symlink()


def test_where_their_refs_are_gone_the_clients_prune_takes_older_generations_and_never_the_current_one(
    home: Path,
    old: Path,
) -> None:
    shutil.rmtree(home / "hub/models--org--m/refs/bundle")
    hf_cache(home / "hub", "prune", "--yes")
    assert Home(home).bundle("demo").verify().faults == ()
    before = tree(home)
    with pytest.raises(IntegrityError) as caught:
        rollback("demo", home)
    assert "w" in caught.value.message
    assert tree(home) == before
    install(old, home)
    assert Home(home).bundle("demo").verify().faults == ()
