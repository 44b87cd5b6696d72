"""bundler.files.space: room is checked before anything is written, and a full disk told from other errors."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.errors import SpaceError
from bundler.files.space import check_room, existing_folder, is_disk_full, report_full_disk
from tests.support.process import run


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
def test_a_full_disk_becomes_a_space_error(tmp_path: Path, number: int) -> None:
    error = OSError(number, "what the system says")
    with pytest.raises(SpaceError) as caught, report_full_disk(tmp_path, "/x: full", hint="free some"):
        raise error
    assert is_disk_full(error) and caught.value.__cause__ is error
    assert (caught.value.message, caught.value.hint) == ("/x: full", "free some")


def test_any_other_error_stays_what_it_is(tmp_path: Path) -> None:
    error = OSError(errno.EIO, "what the system says")
    with pytest.raises(OSError) as caught, report_full_disk(tmp_path, "/x: full", hint="free some"):
        raise error
    assert caught.value is error and not is_disk_full(error)


# Run on a file system with room for few files: works until no more of them fit, with bytes to spare.
FEW_FILES = """
import sys
from pathlib import Path
from bundler.errors import SpaceError
from bundler.files.access import explain
from bundler.files.space import check_room, count_free_files, report_full_disk

place = Path(sys.argv[1])
check_room({place: 1000}, files={place: count_free_files(place)})
try:
    check_room({place: 1000}, files={place / "a": 100, place / "b" / "c": 100}, hint="free some, or go elsewhere")
except SpaceError as error:
    print(error)
try:
    with report_full_disk(place, f"{place}: the file system filled up", hint="free some bytes"):
        for number in range(1000):
            (place / str(number)).touch()
except SpaceError as error:
    print(error)
try:
    (place / "more").touch()
except OSError as error:
    print(explain(error))
(place / "0").write_bytes(b"")
try:
    with report_full_disk(place, "full", hint="free some bytes"), (place / "0").open("wb", buffering=0) as file:
        while file.write(bytes(1 << 20)):
            pass
except SpaceError as error:
    print(error)
"""


def test_where_no_more_files_fit_it_is_said_that_bytes_would(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=8m,nr_inodes=150 none '{tmp_path}' && exec " + '"$@"'
    wrapped = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*wrapped, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel gives no mount namespace")
    shown = f"`df -i {tmp_path}` shows how many there are"
    again = f"delete files there, or choose another file system, and run the same command again; {shown}"
    assert run([*wrapped, sys.executable, "-c", FEW_FILES, tmp_path]).stdout.splitlines() == [
        f"not enough room in {tmp_path}: 200 files needed, 149 more files fit (inodes); nothing was written",
        f"hint: delete files, or go elsewhere; {shown}",
        f"{tmp_path}: the file system filled up: it has room for 8.39 MB and for no more files (inodes)",
        f"hint: {again}",
        f"{tmp_path}/more: No space left on device: it has room for 8.39 MB and for no more files (inodes)",
        f"hint: {again}",
        "full",
        "hint: free some bytes",
    ]
