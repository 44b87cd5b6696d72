"""bundler.parity.repair: files are made whole where they are or elsewhere, and nothing else is touched."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from contextlib import contextmanager
from fractions import Fraction
from operator import ne
from pathlib import Path

import pytest

from bundler.errors import IntegrityError, UsageError
from bundler.parity.bundle import make_bundle_parity, repair_bundle
from tests.parity.damage import TENTH, contents, damage
from tests.support.process import run_python
from tests.support.users import ALICE, bundle_as, make_open_folder, needs_root


def test_a_bundle_that_was_cut_is_made_whole_and_one_that_is_whole_is_left(bundle: Path) -> None:
    good, [file] = bundle.read_bytes(), make_bundle_parity([bundle], TENTH).files
    os.truncate(bundle, len(good) - len(good) // 12)
    assert repair_bundle(bundle).files == (bundle,)
    assert bundle.read_bytes() == good
    bundle.write_bytes(good + b"more")
    assert repair_bundle(bundle).files == (bundle,)
    assert bundle.read_bytes() == good
    before = bundle.stat()
    assert repair_bundle(bundle).files == ()
    assert bundle.stat() == before
    assert file.exists()


def test_what_a_killed_one_left_is_removed(bundle: Path) -> None:
    dead = run_python(
        """
        from pathlib import Path
        from bundler.files.atomic import temporary_path
        print(temporary_path(Path()))
        """
    )
    left = bundle.with_name(dead.stdout.strip())
    left.write_bytes(b"half of it")
    make_bundle_parity([bundle], TENTH)
    assert not left.exists()
    left.write_bytes(b"half of it")
    damage(bundle, [1000])
    repair_bundle(bundle)
    assert not left.exists()


def test_lost_volumes_come_back_and_parity_is_no_longer_than_they_are(volumes: list[Path]) -> None:
    folder = volumes[0].parent
    parity = make_bundle_parity([volumes[1]], Fraction(1, 2)).files
    assert max(path.stat().st_size for path in parity) <= max(path.stat().st_size for path in volumes)
    good = contents(folder)
    volumes[0].unlink()
    damage(volumes[2], [5, 10_000])
    parity[0].unlink()
    del good[parity[0].name]
    done = repair_bundle(folder / "demo.tar.zst")
    assert done.files == (volumes[0], volumes[2])
    assert done.missing == (volumes[0],)
    assert contents(folder) == good


def test_what_is_rebuilt_can_go_elsewhere_and_the_damaged_file_stays(bundle: Path, tmp_path: Path) -> None:
    good = bundle.read_bytes()
    make_bundle_parity([bundle], TENTH)
    damage(bundle, [1000])
    damaged = bundle.read_bytes()
    (tmp_path / "out").mkdir()
    assert repair_bundle(bundle, output=tmp_path / "out").files == (tmp_path / "out" / bundle.name,)
    assert (tmp_path / "out" / bundle.name).read_bytes() == good
    assert bundle.read_bytes() == damaged


def test_a_disk_that_the_kernel_cannot_copy_to_is_written_all_the_same(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    test_what_is_rebuilt_can_go_elsewhere_and_the_damaged_file_stays(bundle, tmp_path)


@pytest.mark.parametrize("change", ["cut", "written to"])
def test_a_file_that_changes_meanwhile_is_not_replaced(bundle: Path, change: str) -> None:
    make_bundle_parity([bundle], TENTH)
    damage(bundle, [1000])

    total, looked, names = list[int](), 0, sorted(bundle.parent.iterdir())

    def change_after_the_first_look(count: int) -> None:
        nonlocal looked
        looked += count
        if [looked] == total and change == "cut":
            os.truncate(bundle, bundle.stat().st_size // 2)
        elif [looked] == total:
            damage(bundle, [600_000])

    with pytest.raises(IntegrityError, match=r"nothing was changed|while it was being repaired"):
        repair_bundle(bundle, on_total=total.append, progress=change_after_the_first_look)
    assert [looked] == total
    assert sorted(bundle.parent.iterdir()) == names
    if change == "written to":
        assert repair_bundle(bundle).files == (bundle,)


def test_what_is_rebuilt_is_no_more_open_than_what_is_there(volumes: list[Path]) -> None:
    for path in volumes:
        path.chmod(0o640)
    volumes[2].chmod(0o600)
    parity = make_bundle_parity([volumes[0]], TENTH).files
    volumes[0].unlink()
    repair_bundle(volumes[0])
    assert {path.stat().st_mode & 0o777 for path in (volumes[0], *parity)} == {0o600}


def test_pipes_folders_and_links_do_no_harm(bundle: Path, tmp_path: Path) -> None:
    good = bundle.read_bytes()
    make_bundle_parity([bundle], TENTH)
    (tmp_path / "demo.tar.zst.parity.002").mkdir()
    os.mkfifo(tmp_path / "demo.tar.zst.parity.003")
    (tmp_path / "real").mkdir()
    real = bundle.rename(tmp_path / "real" / bundle.name)
    bundle.symlink_to(real)
    damage(real, [1000])
    notes: list[str] = []
    assert repair_bundle(bundle, on_note=notes.append).files == (real,)
    assert (bundle.is_symlink(), real.read_bytes()) == (True, good)
    assert len(notes) == 2
    bundle.unlink()
    os.mkfifo(bundle)
    with pytest.raises(IntegrityError, match="parts of the bundle are lost"):
        repair_bundle(bundle)


def test_nothing_of_the_users_own_is_written_over(bundle: Path, tmp_path: Path) -> None:
    own = tmp_path / "demo.tar.zst.parity"
    own.write_text("my own")
    with pytest.raises(UsageError, match="is no parity that would be replaced"):
        make_bundle_parity([bundle], TENTH)
    own.unlink()
    assert make_bundle_parity([bundle], TENTH).replaced == ()
    assert make_bundle_parity([bundle], TENTH).replaced == (own,)
    damage(bundle, [1000])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / bundle.name).write_text("my own")
    with pytest.raises(UsageError, match="is there already, and is not replaced"):
        repair_bundle(bundle, output=tmp_path / "out")
    assert (tmp_path / "out" / bundle.name).read_text() == "my own"


def test_only_what_is_damaged_is_written_over_and_needs_room(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = bundle.read_bytes()
    make_bundle_parity([bundle], TENTH)
    damage(bundle, [1000])
    before = bundle.stat()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(good) // 2))
    assert repair_bundle(bundle).files == (bundle,)
    assert bundle.read_bytes() == good
    after = bundle.stat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


@needs_root
def test_a_file_that_may_not_be_written_to_is_replaced(bundle: Path) -> None:
    with contextmanager(make_open_folder)() as folder:
        place = Path(shutil.copy(bundle, folder))
        make_bundle_parity([place], TENTH)
        damage(place, [1000])
        before = place.stat().st_ino
        place.chmod(0o444)
        for path in (folder, *folder.iterdir()):
            os.chown(path, ALICE, ALICE)
        done = bundle_as(ALICE, "repair", place)
        assert done.returncode == 0, done.stderr
        after = place.stat()
        assert (place.read_bytes(), after.st_mode & 0o777, after.st_uid) == (bundle.read_bytes(), 0o444, ALICE)
        assert after.st_ino != before


def test_a_repair_that_is_killed_leaves_the_file_no_worse_and_the_next_one_goes_on(bundle: Path) -> None:
    good = bundle.read_bytes()
    make_bundle_parity([bundle], Fraction(1, 4))
    positions = [1000, 200_000, 600_000, 900_000]
    damage(bundle, positions)
    damaged, wrong = bundle.read_bytes(), []
    for _ in range(len(positions)):
        # The process ends after the first write to the file.
        ended = run_python(
            f"""
            import os
            from pathlib import Path
            from bundler.parity import protected, repair
            from bundler.parity.bundle import repair_bundle

            def write_once(descriptor, content, offset):
                if os.path.samestat(os.fstat(descriptor), os.stat({str(bundle)!r})):
                    protected.write_at(descriptor, content, offset)
                    os.kill(os.getpid(), 9)
                protected.write_at(descriptor, content, offset)

            repair.write_at = write_once
            repair_bundle(Path({str(bundle)!r}))
            """,
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL
        found = bundle.read_bytes()
        wrong.append(sum(map(ne, found, good)))
        assert all(byte in (was, is_right) for byte, was, is_right in zip(found, damaged, good, strict=True))
    assert wrong == [3, 2, 1, 0]
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["demo.tar.zst", "demo.tar.zst.parity"]
    assert repair_bundle(bundle).files == ()
