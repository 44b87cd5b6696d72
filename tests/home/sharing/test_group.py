"""A home of a group: read by its members, whatever the umask; and what is closed to whom is said."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from bundler.home.home import Home
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.users import ALICE, BOB, MALLORY, TEAM, bundle_as, needs_root

pytestmark = needs_root


@pytest.fixture
def shared(place: Path) -> Path:
    """A folder in which Alice may make homes."""
    (place / "shared").mkdir()
    os.chown(place / "shared", ALICE, ALICE)
    return place / "shared"


def can_read(home: Path, uid: int, *groups: int, name: str = "tiny") -> bool:
    """Whether a user can verify a bundle and launch on it."""
    codes = {
        bundle_as(uid, *words, groups=groups).returncode
        for words in (
            ("verify", name, "--hf-home", home),
            ("run", "--bundle", name, "--hf-home", home, "--isolate", "none", "--", "true"),
        )
    }
    assert codes in ({0}, {18})
    return codes == {0}


def install_as(uid: int, packed: Path, home: Path, *words: object, **more: Any) -> dict[str, Any]:
    done = bundle_as(uid, "install", packed, "--hf-home", home, "--json", *words, **more)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o022])
def test_members_read_what_is_installed_for_their_group_whatever_the_umask(
    packed: Path, shared: Path, umask: int
) -> None:
    home = shared / "home"
    value = install_as(ALICE, packed, home, "--group", TEAM, groups=[TEAM], umask=umask)
    assert value["closed"] == []
    assert can_read(home, BOB, TEAM)
    assert can_read(home, MALLORY) is (umask == 0o022)
    for path in (home, *home.rglob("*")):
        status = path.lstat()
        assert status.st_gid == TEAM, path
        if path.is_dir() and not path.is_symlink() and path.name != "launches":
            assert status.st_mode & stat.S_ISGID, path
        assert not status.st_mode & stat.S_IWGRP or path.is_symlink() or path.name == "launches", path
    # Members read; who installs next needs to say nothing of the group but what the umask closes.
    second = tiny_bundle(shared, locked_repo("org/n", {"n": b"n"}), contents=[b"n"], name="second")
    install_as(ALICE, second, home, "--group", TEAM, groups=[TEAM], umask=umask)
    assert can_read(home, BOB, TEAM, name="second")


def test_a_home_that_was_closed_is_opened_to_a_group_with_all_that_the_bundle_shares(
    packed: Path, shared: Path
) -> None:
    home = shared / "home"
    assert install_as(ALICE, packed, home, umask=0o077)["closed"] == []
    assert not can_read(home, BOB, TEAM)
    value = install_as(ALICE, packed, home, "--group", TEAM, groups=[TEAM], umask=0o077)
    assert (value["written_files"], value["closed"]) == (0, [])
    assert can_read(home, BOB, TEAM)
    assert not can_read(home, MALLORY)


def test_with_a_umask_that_lets_the_group_write_its_members_install_upgrade_and_remove(
    packed: Path, shared: Path
) -> None:
    home = shared / "home"
    install_as(ALICE, packed, home, "--group", TEAM, groups=[TEAM], umask=0o002)
    second = tiny_bundle(shared, locked_repo("org/m", {"n": b"n"}, commit="e" * 40), contents=[b"n"])
    value = install_as(BOB, second, home, groups=[TEAM], umask=0o002)
    assert (value["closed"], value["replaced"]) == ([], Home(home).generations("tiny")[1].digest)
    assert can_read(home, ALICE, TEAM)
    for words in (["rollback", "tiny"], ["prune"], ["remove", "tiny"]):
        done = bundle_as(BOB, *words, "--hf-home", home, groups=[TEAM], umask=0o002)
        assert done.returncode == 0, done.stderr
    logged = json.loads(bundle_as(ALICE, "log", "--json", "--hf-home", home, groups=[TEAM]).stdout)["changes"]
    assert [(line["action"], line["uid"]) for line in logged] == [
        ("install", ALICE),
        ("install", BOB),
        ("rollback", BOB),
        ("prune", BOB),
        ("remove", BOB),
    ]


def test_a_umask_of_077_in_a_folder_of_a_group_is_told_and_what_it_names_mends_it(
    packed: Path, shared: Path
) -> None:
    os.chown(shared, ALICE, TEAM)
    shared.chmod(0o2775)
    home = shared / "home"
    value = install_as(ALICE, packed, home, groups=[TEAM], umask=0o077)
    [closed] = value["closed"]
    assert (closed["readers"], closed["first"]) == (f"members of group {TEAM}", str(home))
    assert closed["remedy"] == f"`bundle install` again with --group {TEAM}"
    assert f"warning: members of group {TEAM} cannot read what is installed" in value["stderr"]
    assert not can_read(home, BOB, TEAM)
    assert install_as(ALICE, packed, home, "--group", TEAM, groups=[TEAM], umask=0o077)["closed"] == []
    assert can_read(home, BOB, TEAM)


def test_a_umask_of_077_in_a_home_that_is_open_to_all_is_told(packed: Path, shared: Path) -> None:
    home = shared / "home"
    assert install_as(ALICE, packed, home)["closed"] == []
    second = tiny_bundle(shared, locked_repo("org/n", {"n": b"n"}), contents=[b"n"], name="second")
    value = install_as(ALICE, second, home, umask=0o077)
    assert {closed["readers"] for closed in value["closed"]} == {f"members of group {ALICE}", "other users"}
    [others] = [closed for closed in value["closed"] if closed["readers"] == "other users"]
    assert others["first"] == f"{home}/hub/models--org--n"
    assert others["remedy"] == f"umask 022, and chmod -R o+rX {home}"
    assert not can_read(home, BOB, name="second")


def test_one_closed_file_is_named_with_the_one_change_that_opens_it(packed: Path, shared: Path) -> None:
    home = shared / "home"
    install_as(ALICE, packed, home)
    blob = next((home / "hub/models--org--m/blobs").iterdir())
    blob.chmod(0o640)
    [closed] = install_as(ALICE, packed, home)["closed"]
    assert (closed["count"], closed["first"], closed["remedy"]) == (1, str(blob), f"chmod o+rX {blob}")
    blob.chmod(0o644)
    assert install_as(ALICE, packed, home)["closed"] == []


def test_a_folder_above_the_home_that_shuts_the_group_out_is_told(packed: Path, shared: Path) -> None:
    shared.chmod(0o700)
    value = install_as(ALICE, packed, shared / "home", "--group", TEAM, groups=[TEAM])
    assert [(closed["first"], closed["remedy"]) for closed in value["closed"]] == [
        (str(shared), f"chmod o+x {shared}")
    ]


@pytest.mark.parametrize("group", [str(TEAM), "no-such-group"])
def test_a_group_that_one_is_not_in_is_wrong_usage_and_nothing_is_written(
    packed: Path, shared: Path, group: str
) -> None:
    done = bundle_as(ALICE, "install", packed, "--hf-home", shared / "home", "--group", group)
    assert done.returncode == 2
    assert ("you are not in group 60200" if group == str(TEAM) else "no group 'no-such-group'") in done.stderr
    assert not (shared / "home").exists()


def test_a_home_of_somebody_else_is_not_given_away(packed: Path, shared: Path) -> None:
    home = shared / "home"
    home.mkdir()
    home.chmod(0o2775)
    os.chown(home, MALLORY, TEAM)
    home.chmod(0o2755)
    done = bundle_as(ALICE, "install", packed, "--hf-home", home, "--group", TEAM, groups=[TEAM])
    assert done.returncode == 18
    assert f"{home} has mode 2755 and belongs to user {MALLORY}, you are user {ALICE}" in done.stderr
    assert f"chmod g+wx {home}" in done.stderr
    assert list(home.iterdir()) == []
    home.chmod(0o2775)
    assert install_as(ALICE, packed, home, "--group", TEAM, groups=[TEAM])["closed"] == []


@pytest.mark.parametrize(
    ("groups", "mode", "change"),
    [
        ([], 0o700, "chmod o+x {}; or to one group: chgrp GROUP, chmod g+x"),
        ([TEAM], 0o700, "chmod g+x {}"),
        ([], 0o750, "it is open to group 60200: ask to become a member"),
    ],
)
def test_the_hint_at_what_may_not_be_read_is_the_least_change_for_who_asks(
    packed: Path, shared: Path, groups: list[int], mode: int, change: str
) -> None:
    home = shared / "home"
    install_as(ALICE, packed, home)
    closed = home / "hub/models--org--m"
    os.chown(closed, ALICE, TEAM)
    closed.chmod(mode)
    done = bundle_as(BOB, "verify", "tiny", "--hf-home", home, groups=groups)
    assert (done.returncode, change.format(closed) in done.stderr) == (18, True), done.stderr


def test_an_owner_is_told_to_open_it_to_himself(packed: Path, shared: Path) -> None:
    home = shared / "home"
    install_as(ALICE, packed, home)
    (home / "hub").chmod(0o055)
    done = bundle_as(ALICE, "verify", "tiny", "--hf-home", home)
    assert (done.returncode, done.stderr.rstrip().endswith(f"hint: chmod u+x {home}/hub")) == (18, True), (
        done.stderr
    )


def test_a_rollback_and_a_removal_close_nothing_to_members(packed: Path, shared: Path) -> None:
    home = shared / "home"
    second = tiny_bundle(shared / "2", locked_repo("org/m", {"n": b"n"}, commit="e" * 40), contents=[b"n"])
    other = tiny_bundle(
        shared / "3", locked_repo("org/m", {"o": b"o"}, commit="f" * 40), contents=[b"o"], name="other"
    )
    for made in (packed, second, other):
        install_as(ALICE, made, home, "--group", TEAM, groups=[TEAM], umask=0o077)
    for words in (["rollback", "tiny"], ["remove", "tiny"]):
        done = bundle_as(ALICE, *words, "--hf-home", home, groups=[TEAM], umask=0o077)
        assert done.returncode == 0, done.stderr
        for name in ("tiny", "other")[words[0] == "remove" :]:
            assert can_read(home, BOB, TEAM, name=name)
    # Handed over with the removal.
    ref = home / "hub" / "models--org--m" / "refs" / "main"
    assert (ref.read_text(), stat.S_IMODE(ref.stat().st_mode) & stat.S_IRGRP) == ("f" * 40, stat.S_IRGRP)


def test_a_bundle_that_is_closed_hides_no_other_from_an_audit(packed: Path, shared: Path) -> None:
    home = shared / "home"
    install_as(ALICE, packed, home, "--group", TEAM, groups=[TEAM], umask=0o077)
    second = tiny_bundle(shared / "2", locked_repo("org/n", {"n": b"n"}), contents=[b"n"], name="closed")
    install_as(ALICE, second, home, groups=[TEAM], umask=0o077)
    listed = bundle_as(BOB, "list", "--json", "--hf-home", home, groups=[TEAM])
    assert listed.returncode == 18, (listed.stdout, listed.stderr)
    assert [bundle["name"] for bundle in json.loads(listed.stdout)["bundles"]] == ["tiny"]
    audit = bundle_as(BOB, "verify", "--all", "--json", "--hf-home", home, groups=[TEAM])
    found = json.loads(audit.stdout)
    assert audit.returncode == 18
    assert [(report["name"], report["ok"]) for report in found["reports"]] == [("tiny", True)]
    assert {error["exit_code"] for error in found["errors"]} == {18}
