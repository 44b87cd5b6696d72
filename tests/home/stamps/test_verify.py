"""What a launch hashes, and what it finds, once stamps were taken: every change through the file system."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.files.stamp import Stamp
from bundler.home.generation import stamps_path
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.installed import InstalledBundle
from bundler.home.remove import remove
from bundler.home.stamps import take
from bundler.home.stamps.check import ContentCheck
from bundler.home.stamps.places import open_state_folder, own_stamps_path
from bundler.home.stamps.stamps import Stamps
from bundler.home.stamps.verify import verify_and_stamp, verify_for_launch
from bundler.home.view.open import open_view
from bundler.verify.report import Report
from tests.support.bundles import locked_repo, tiny_bundle

MODEL = b"weights" * 100
FILES = {"config.json": b"{}", "model.bin": MODEL}
PREPARED = {"org___data/default/0.0.0/abc/data-train.arrow": b"rows" * 50}
CONTENTS = [*FILES.values(), *PREPARED.values()]


@pytest.fixture
def hf_home(tmp_path: Path) -> Path:
    """A home that was installed just now."""
    home = tmp_path / "hf"
    install(tiny_bundle(tmp_path / "built", locked_repo("org/model", FILES), contents=FILES.values()), home)
    return home


def look(hf_home: Path, notes: list[str] | None = None, **options: object) -> Report:
    """Verify the only bundle as a launch does."""
    bundle = Home(hf_home).bundle("tiny", parse=False)
    check = ContentCheck(**options)  # type: ignore[arg-type]
    on_note = (lambda note: None) if notes is None else notes.append
    return verify_for_launch(bundle, open_view(hf_home, [bundle]), check, on_note=on_note)


def blob_of(hf_home: Path, content: bytes = MODEL) -> Path:
    """Return the file that has a content."""
    return next(path for path in hf_home.glob("hub/*/blobs/*") if path.read_bytes() == content)


def own_path(hf_home: Path) -> Path:
    """Return where this user's own stamps stand."""
    return own_stamps_path(open_state_folder(hf_home), Home(hf_home).bundle("tiny"))


def test_the_first_launch_after_an_installation_hashes_nothing_and_opens_no_content(hf_home: Path) -> None:
    bundle = Home(hf_home).bundle("tiny", parse=False)
    report = look(hf_home)
    assert (report.ok, report.size_bytes, report.stamped_files, report.files) == (True, 0, 2, 2)
    assert report.stamped_bytes == len(MODEL) + 2
    assert "lock" not in bundle.receipt.__dict__, "its lock need not even be parsed"


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_strace_sees_no_blob_opened_by_a_launch(hf_home: Path, tmp_path: Path) -> None:
    from tests.support.process import script

    trace = tmp_path / "trace"
    words = ["strace", "-f", "-qq", "-e", "trace=open,openat,read", "-y", "-o", trace, script("bundle"), "run"]
    done = subprocess.run(
        [*words, "--hf-home", hf_home, "--isolate", "none", "--", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("this machine lets nobody trace")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    assert any(str(hf_home) in line for line in lines), "the trace shows what is read in the home"
    assert [line for line in lines if "/blobs/" in line] == []


def change_in_place_and_restore_the_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"WEIGHTS" * 100)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_rename(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"WEIGHTS" * 100)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def change_by_another_name(path: Path) -> None:
    other = path.parents[3] / "other"
    other.hardlink_to(path)
    change_in_place_and_restore_the_time(other)


@pytest.mark.parametrize(
    "change", [change_in_place_and_restore_the_time, replace_by_rename, change_by_another_name]
)
def test_content_that_was_changed_without_a_trace_in_size_and_time_is_found(
    hf_home: Path, change: Callable[[Path], None]
) -> None:
    assert look(hf_home).ok
    change(blob_of(hf_home))
    report = look(hf_home)
    assert [fault.kind for fault in report.faults] == ["changed"]
    assert report.size_bytes == len(MODEL), "what did not change is not hashed"
    assert not look(hf_home).ok, "what was found wrong is found again"


def test_content_that_was_only_touched_is_hashed_once_and_then_stamped(hf_home: Path) -> None:
    blob_of(hf_home).touch()
    report = look(hf_home)
    assert (report.ok, report.size_bytes, report.stamped_files) == (True, len(MODEL), 1)
    assert look(hf_home).size_bytes == 0


def test_an_installation_on_a_disk_that_is_full_in_the_end_says_that_it_has_no_stamps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path, changed_ns: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    notes: list[str] = []
    monkeypatch.setattr(take, "wait_for_clock", fail)
    bundle = tiny_bundle(tmp_path / "made", locked_repo("org/m", {"a": b"a"}), contents=[b"a"])
    installed = install(bundle, tmp_path / "home", on_note=notes.append).bundle
    assert not stamps_path(tmp_path / "home", "tiny", installed.digest).exists()
    assert [note for note in notes if "cannot be remembered" in note and "No space left" in note]


def test_what_changed_in_the_tick_in_which_it_was_hashed_has_no_stamp(hf_home: Path) -> None:
    stamps = Stamps.loads(stamps_path(hf_home, "tiny", Home(hf_home).bundle("tiny").digest).read_bytes())
    changed = {path: stamp.changed_ns for path, (stamp, _) in stamps.content.items()}
    last = max(changed.values())
    settled = stamps.settled(last)
    assert settled.content.keys() == {path for path, moment in changed.items() if moment < last}
    assert (
        stamps.settled(last, known=[(0, *stamp) for stamp, _ in stamps.content.values()]).content == stamps.content
    )
    assert stamps.settled(stamps.last_change_ns).names == {}
    assert stamps.settled(stamps.last_change_ns + 1) == stamps


@pytest.mark.parametrize("name", ["refs/main", "snapshots/{commit}/config.json", "snapshots/{commit}/extra"])
def test_a_name_of_the_view_that_was_changed_is_found_without_reading_content(hf_home: Path, name: str) -> None:
    bundle = Home(hf_home).bundle("tiny")
    place = bundle.view / "hub/models--org--model" / name.format(commit=bundle.lock.repos[0].commit)
    place.unlink(missing_ok=True)
    place.write_bytes(b"[]")
    report = look(hf_home)
    assert not report.ok
    assert report.size_bytes <= 2, "at most the file that stands in place of a link"


def test_full_hashes_all_and_finds_what_stamps_cannot(hf_home: Path) -> None:
    """As where the disk has lost bits: no program can change a file and leave its change time."""
    path = stamps_path(hf_home, "tiny", Home(hf_home).bundle("tiny").digest)
    before = Stamps.loads(path.read_bytes())
    blob = blob_of(hf_home)
    blob.write_bytes(b"WEIGHTS" * 100)
    forge(path, before, blob)
    assert look(hf_home).ok, "the stamps say that it has not changed"
    assert not look(hf_home, kind="full").ok
    assert not look(hf_home).ok, "what was found is not forgotten"


def test_a_sample_of_all_hashes_all(hf_home: Path) -> None:
    report = look(hf_home, sample_percent=100)
    assert (report.size_bytes, report.stamped_files) == (len(MODEL) + 2, 0)
    assert look(hf_home).size_bytes == 0, "what was in the sample has its stamp as before"


def test_after_so_many_days_all_is_hashed_again_and_the_days_begin_anew(hf_home: Path) -> None:
    path = stamps_path(hf_home, "tiny", Home(hf_home).bundle("tiny").digest)
    for days in (31, -1):
        stamps = Stamps.loads(path.read_bytes())
        path.write_bytes(replace_date(stamps, time.time() - days * 24 * 3600).dumps())
        own_path(hf_home).unlink(missing_ok=True)
        notes: list[str] = []
        assert look(hf_home, notes).size_bytes == len(MODEL) + 2
        assert "hashing all of it again" in notes[0]
        assert look(hf_home).size_bytes == 0
    assert look(hf_home, recheck_days=0).ok


def test_verify_hashes_all_and_takes_new_stamps(hf_home: Path) -> None:
    stamps_path(hf_home, "tiny", Home(hf_home).bundle("tiny").digest).unlink()
    report = verify_and_stamp(Home(hf_home).bundle("tiny"))
    assert (report.ok, report.size_bytes) == (True, len(MODEL) + 2)
    verify_and_stamp(Home(hf_home).bundle("tiny"))
    assert look(hf_home).size_bytes == 0


def test_stamps_that_are_damaged_or_open_to_others_or_a_link_are_not_used(hf_home: Path, tmp_path: Path) -> None:
    path = stamps_path(hf_home, "tiny", Home(hf_home).bundle("tiny").digest)
    good = path.read_bytes()

    def damage() -> None:
        path.write_bytes(good.replace(b'"hashed_at":', b'"hashed_at":1'))

    def cut() -> None:
        path.write_bytes(good[: len(good) // 2])

    def open_to_all() -> None:
        path.write_bytes(good)
        path.chmod(0o666)

    def link() -> None:
        elsewhere = tmp_path / "elsewhere"
        path.unlink()
        elsewhere.write_bytes(good)
        path.symlink_to(elsewhere)

    def make_a_pipe() -> None:
        path.unlink()
        os.mkfifo(path)

    for spoil in (damage, cut, open_to_all, link, make_a_pipe):
        spoil()
        own_path(hf_home).unlink(missing_ok=True)
        notes: list[str] = []
        report = look(hf_home, notes)
        assert (report.ok, report.size_bytes) == (True, len(MODEL) + 2), spoil
        assert f"{path} is not used" in notes[0], spoil


def test_stamps_of_another_bundle_say_nothing(hf_home: Path, tmp_path: Path) -> None:
    path = stamps_path(hf_home, "tiny", Home(hf_home).bundle("tiny").digest)
    stamps = Stamps.loads(path.read_bytes())
    path.write_bytes(replace_lock(stamps).dumps())
    assert look(hf_home).size_bytes == len(MODEL) + 2


def test_own_stamps_stand_where_only_their_user_writes(
    hf_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    stamps_path(hf_home, "tiny", Home(hf_home).bundle("tiny").digest).unlink()
    assert look(hf_home).size_bytes == len(MODEL) + 2
    path = own_path(hf_home)
    assert path.is_relative_to(tmp_path / "state/bundle")
    assert [stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent, path.parents[1])] == [
        0o600,
        0o700,
        0o700,
    ]
    assert look(hf_home).size_bytes == 0
    path.parent.chmod(0o777)
    notes: list[str] = []
    assert look(hf_home, notes).size_bytes == len(MODEL) + 2
    assert "only this user can write to" in notes[0]


def test_removing_a_bundle_removes_its_stamps(hf_home: Path, tmp_path: Path) -> None:
    path = stamps_path(hf_home, "tiny", Home(hf_home).bundle("tiny").digest)
    look(hf_home, kind="full")
    own = own_path(hf_home)
    assert path.exists() and own.exists()
    remove("tiny", hf_home)
    assert not path.exists()
    other = tiny_bundle(tmp_path / "other", locked_repo("org/o", {"a": b"a"}), contents=[b"a"], name="other")
    install(other, hf_home)
    bundle = Home(hf_home).bundle("other")
    verify_for_launch(bundle, open_view(hf_home, [bundle]), ContentCheck(kind="full"))
    assert not own.exists(), "what is left of the removed one goes with the next stamps"


def forge(path: Path, stamps: Stamps, blob: Path) -> None:
    """Make stamps say that a file was hashed as it is now."""
    name = next(name for name in stamps.content if name.endswith(blob.name))
    content = {**stamps.content, name: (Stamp.of(blob.lstat()), stamps.content[name][1])}
    path.write_bytes(replace(stamps, content=content).dumps())


def replace_date(stamps: Stamps, hashed_at: float) -> Stamps:
    return replace(stamps, hashed_at=hashed_at)


def replace_lock(stamps: Stamps) -> Stamps:
    return replace(stamps, lock_blake3="0" * 64)


def test_several_bundles_are_looked_at_as_cheaply_as_one(hf_home: Path, tmp_path: Path) -> None:
    other = tiny_bundle(
        tmp_path / "other",
        locked_repo("org/data", {"readme": b"r"}, kind="dataset", prepared=PREPARED),
        contents=[b"r", *PREPARED.values()],
        name="other",
    )
    install(other, hf_home)

    def launch() -> list[Report]:
        bundles: list[InstalledBundle] = Home(hf_home).bundles(parse=False)
        view = open_view(hf_home, bundles)
        return [verify_for_launch(bundle, view, ContentCheck()) for bundle in bundles]

    assert [(report.ok, report.size_bytes) for report in launch()] == [(True, 0), (True, 0)]
    assert [(report.ok, report.size_bytes) for report in launch()] == [(True, 0), (True, 0)]
    change_in_place_and_restore_the_time(blob_of(hf_home))
    assert [report.ok for report in launch()] == [True, False]
