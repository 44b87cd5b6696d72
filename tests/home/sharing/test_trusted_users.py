"""What belongs to a user who is not trusted, or what everybody may change: not read, not written through, named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bundler.errors import IntegrityError, UntrustedError
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.launches import LAUNCHES_FOLDER
from bundler.home.remove import remove
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle, tree
from tests.support.users import ALICE, BOB, MALLORY, TEAM, bundle_as, needs_root

REPO = "hub/models--org--m"
LINK = f"{REPO}/snapshots/{COMMIT}/w.safetensors"
REF = f"{REPO}/refs/main"

pytestmark = needs_root


@pytest.fixture
def home(packed: Path, place: Path) -> Path:
    install(packed, place / "home")
    return place / "home"


def plant_link(link: Path, owner: int, place: Path) -> Path:
    """Put a folder elsewhere in place of one of the home, behind a link that `owner` made."""
    elsewhere = place / "elsewhere"
    link.rename(elsewhere) if link.exists() else elsewhere.mkdir()
    link.symlink_to(elsewhere)
    os.lchown(link, owner, owner)
    return elsewhere


@pytest.mark.parametrize("name", ["hub", "bundles", "bundles/launches", REPO, f"{REPO}/blobs", f"{REPO}/refs"])
def test_nobody_writes_through_a_link_of_a_stranger(packed: Path, home: Path, place: Path, name: str) -> None:
    elsewhere = plant_link(home / name, MALLORY, place)
    os.chown(elsewhere, MALLORY, MALLORY)
    blob = next((home / REPO / "blobs").iterdir())
    blob.write_bytes(b"damaged")
    before = tree(place)
    with pytest.raises(UntrustedError, match=f"{home / name} is a link of user {MALLORY}"):
        install(packed, home)
    assert tree(place) == before


@pytest.mark.parametrize("name", ["hub", "bundles", REPO, f"{REPO}/blobs"])
@pytest.mark.parametrize("words", [["verify", "tiny"], ["run", "--", "true"]])
def test_nobody_reads_through_a_link_of_a_stranger(home: Path, place: Path, name: str, words: list[str]) -> None:
    plant_link(home / name, MALLORY, place)
    done = bundle_as(BOB, words[0], "--hf-home", home, *words[1:])
    assert done.returncode == 6, done.stderr
    assert f"a link of user {MALLORY}, whom this home does not trust" in done.stderr


@pytest.mark.parametrize("owner", [0, ALICE])
def test_a_hub_on_another_disk_works_if_root_or_the_owner_of_the_home_linked_it(
    packed: Path, place: Path, owner: int
) -> None:
    home, disk = place / "home", place / "disk"
    home.mkdir()
    disk.mkdir()
    (home / "hub").symlink_to(disk)
    for path in (home, disk, home / "hub"):
        os.chown(path, ALICE, ALICE, follow_symlinks=False)
    os.lchown(home / "hub", owner, owner)
    assert bundle_as(ALICE, "install", packed, "--hf-home", home).returncode == 0
    assert (disk / "models--org--m" / "refs" / "main").read_text() == COMMIT
    for user in (0, ALICE, BOB):
        done = bundle_as(user, "run", "--hf-home", home, "--isolate", "none", "--", "true")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [LINK, "hub/models--m", REF, f"{REPO}/trees/{COMMIT}.json"])
def test_a_name_of_a_stranger_is_a_fault_and_the_next_installation_makes_it_again(
    packed: Path, home: Path, name: str
) -> None:
    whole = tree(home)
    os.lchown(home / name, MALLORY, MALLORY)
    found = Home(home).bundle("tiny").verify(quick=True).faults
    assert {(fault.kind, fault.path) for fault in found} == {("untrusted", name)}
    notes: list[str] = []
    install(packed, home, on_note=notes.append)
    assert any(name in note for note in notes)
    assert (home / name).lstat().st_uid == 0
    assert tree(home) == whole
    assert Home(home).bundle("tiny").verify().ok


@pytest.mark.parametrize(
    "make_bad", [lambda path: path.chmod(0o666), lambda path: os.chown(path, MALLORY, MALLORY)]
)
def test_content_that_a_stranger_may_change_is_a_fault_and_is_written_again(
    packed: Path, home: Path, make_bad: object
) -> None:
    blob = max((home / REPO / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    make_bad(blob)  # type: ignore[operator]
    assert {fault.kind for fault in Home(home).bundle("tiny").verify().faults} == {"untrusted"}
    assert install(packed, home).written_files == 1
    assert (blob.stat().st_uid, blob.stat().st_mode & 0o777) == (0, 0o644)
    assert Home(home).bundle("tiny").verify().ok


@pytest.mark.parametrize(
    "name", ["", "hub", "bundles", "bundles/generations", "bundles/views", REPO, f"{REPO}/blobs"]
)
def test_a_folder_that_every_user_may_write_to_is_refused_and_with_the_sticky_bit_it_is_not(
    packed: Path, home: Path, name: str
) -> None:
    (home / name).chmod(0o777)
    reason = f"{home / name} is a folder that every user may change: mode 0777"
    with pytest.raises(UntrustedError, match=reason) as caught:
        install(packed, home)
    assert caught.value.exit_code == 6
    assert f"chmod o-w {home / name}" in str(caught.value)
    done = bundle_as(BOB, "verify", "tiny", "--quick", "--hf-home", home)
    assert (done.returncode, "every user may change" in done.stderr) == (6, True)
    (home / name).chmod(0o1777)
    assert bundle_as(BOB, "verify", "tiny", "--quick", "--hf-home", home).returncode == 0


def test_launches_without_the_sticky_bit_are_refused(home: Path) -> None:
    (home / LAUNCHES_FOLDER).chmod(0o777)
    with pytest.raises(UntrustedError, match="launches"):
        remove("tiny", home)


@pytest.mark.parametrize("mode", [0o666, 0o646])
def test_a_receipt_that_every_user_may_change_is_named_and_other_bundles_go_on(
    packed: Path, place: Path, home: Path, mode: int
) -> None:
    other = tiny_bundle(place / "b", locked_repo("org/n", {"n": b"n"}), contents=[b"n"], name="other")
    install(other, home)
    (home / "bundles" / "other.json").chmod(mode)
    with pytest.raises(IntegrityError, match=r"other\.json is a file that every user may change"):
        Home(home).bundle("other")
    assert Home(home).bundle("tiny").verify().ok
    listed = bundle_as(BOB, "list", "--json", "--hf-home", home)
    assert listed.returncode == 6
    assert [one["name"] for one in json.loads(listed.stdout)["bundles"]] == ["tiny"]
    assert "other.json" in json.loads(listed.stdout)["damaged"][0]
    install(other, home)
    assert Home(home).bundle("other").verify().ok


@pytest.mark.parametrize("suffix", [".json.found", ".json.unfinished"])
def test_notes_of_an_installation_that_every_user_may_change_are_not_believed(
    packed: Path, home: Path, suffix: str
) -> None:
    note = home / "bundles" / f"tiny{suffix}"
    note.write_text("hub/models--org--m/blobs/x\n")
    note.chmod(0o666)
    with pytest.raises(UntrustedError, match=suffix):
        remove("tiny", home)


def test_the_lock_is_not_a_link(packed: Path, home: Path, place: Path) -> None:
    (home / "bundles" / ".lock").symlink_to(place / "made")
    with pytest.raises(OSError, match="symbolic links"):
        install(packed, home)
    assert not (place / "made").exists()


def test_members_of_the_group_that_may_write_to_a_home_trust_each_other_and_others_do_not_matter(
    packed: Path, place: Path
) -> None:
    home = place / "home"
    home.mkdir()
    os.chown(home, 0, TEAM)
    home.chmod(0o2775)
    done = bundle_as(ALICE, "install", packed, "--hf-home", home, groups=[TEAM], umask=0o002)
    assert done.returncode == 0, done.stderr
    for user, groups in ((BOB, [TEAM]), (BOB, []), (0, [])):
        done = bundle_as(user, "run", "--hf-home", home, "--isolate", "none", "--", "true", groups=groups)
        assert done.returncode == 0, done.stderr
    second = tiny_bundle(place / "b", locked_repo("org/n", {"n": b"n"}), contents=[b"n"], name="other")
    assert bundle_as(BOB, "install", second, "--hf-home", home, groups=[TEAM], umask=0o002).returncode == 0
    os.lchown(home / LINK, MALLORY, MALLORY)
    done = bundle_as(BOB, "verify", "tiny", "--hf-home", home)
    assert (done.returncode, f"user {MALLORY}" in done.stderr) == (6, True)
    # A member's link may be read through, and not be written through: it could lead root out of the home.
    plant_link(home / REPO / "refs", ALICE, place)
    os.lchown(home / REPO / "refs", ALICE, TEAM)
    with pytest.raises(UntrustedError, match="refs is a link of user"):
        install(packed, home)


def test_without_a_umask_nothing_is_left_that_every_user_may_change(packed: Path, place: Path) -> None:
    (place / "mine").mkdir()
    os.chown(place / "mine", ALICE, ALICE)
    done = bundle_as(ALICE, "install", packed, "--hf-home", place / "mine" / "home", umask=0)
    assert done.returncode == 0, done.stderr
    opened = {
        path.relative_to(place / "mine").as_posix()
        for path in (place / "mine").rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o002
    }
    assert opened == {f"home/{LAUNCHES_FOLDER}"}
    assert bundle_as(BOB, "verify", "tiny", "--hf-home", place / "mine" / "home").returncode == 0


def test_doctor_finds_a_home_that_every_user_may_write_to(home: Path) -> None:
    (home / "hub").chmod(0o777)
    done = bundle_as(BOB, "doctor", "--json", "--hf-home", home)
    found = [one for one in json.loads(done.stdout)["findings"] if "every user may change" in one["message"]]
    assert (done.returncode, [one["state"] for one in found]) == (16, ["problem"])


def test_a_hidden_receipt_that_every_user_may_change_deletes_nothing(packed: Path, home: Path) -> None:
    [receipt] = (home / "bundles" / "generations" / "tiny").glob("*.json")
    hidden = receipt.with_name(receipt.name + ".removing")
    hidden.write_bytes(receipt.read_bytes())
    hidden.chmod(0o666)
    before = tree(home)
    install(packed, home)
    assert tree(home) == before
