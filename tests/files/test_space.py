"""bundler.files.space: room is checked before anything is written, and a full disk told from other errors."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from bundler.errors import SpaceError
from bundler.files.space import check_room, existing_folder, is_disk_full, report_full_disk


def set_free(monkeypatch: pytest.MonkeyPatch, folder: Path, **sizes: int) -> None:
    usage = shutil.disk_usage(folder)._replace(**sizes)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def test_too_little_room_is_an_error_that_says_how_much_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free(monkeypatch, tmp_path, total=10**12, free=5_000_000_000)
    check_room({tmp_path: 3_000_000_000})
    with pytest.raises(SpaceError) as caught:
        # Two folders of one file system share its room.
        check_room({tmp_path / "store": 3_000_000_000, tmp_path / "out" / "deep": 2_500_000_000}, hint="free some")
    assert caught.value.message == (
        f"not enough room in {tmp_path}: 5.5 GB needed, 5 GB free, 500 MB short; nothing was written"
    )
    assert caught.value.hint == "free some"


def test_a_file_system_that_tells_no_size_is_not_called_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_free(monkeypatch, tmp_path, total=0, used=0, free=0)
    check_room({tmp_path: 3_000_000_000})


def test_the_nearest_folder_that_is_there_stands_for_one_that_is_not(tmp_path: Path) -> None:
    assert existing_folder(tmp_path) == tmp_path == existing_folder(tmp_path / "a" / "b")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_becomes_a_space_error(number: int) -> None:
    error = OSError(number, "what the system says")
    with pytest.raises(SpaceError) as caught, report_full_disk("/x: full", hint="free some"):
        raise error
    assert is_disk_full(error) and caught.value.__cause__ is error
    assert (caught.value.message, caught.value.hint) == ("/x: full", "free some")


def test_any_other_error_stays_what_it_is() -> None:
    error = OSError(errno.EIO, "what the system says")
    with pytest.raises(OSError) as caught, report_full_disk("/x: full", hint="free some"):
        raise error
    assert caught.value is error and not is_disk_full(error)
