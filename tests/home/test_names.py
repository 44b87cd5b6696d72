"""Status and links of many names, each through its open folder, as if they had been looked up one by one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundler.home.verify.names import NameReader


def test_it_says_what_lstat_and_readlink_say_whatever_the_order_of_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_bytes(b"x")
        (tmp_path / folder / "link").symlink_to(f"nowhere/{folder}")
    places = [f"{tmp_path}/{folder}/{name}" for name in ("file", "link") for folder in ("a", "b")]
    with NameReader() as reader:
        for place in places:
            status, target = reader.read(place)
            assert os.path.samestat(status, os.lstat(place))
            assert target == (str(Path(place).readlink()) if Path(place).is_symlink() else None)


@pytest.mark.parametrize("name", ["a/absent", "absent/x", "a/file/x"])
def test_an_error_names_the_whole_path_and_the_next_name_is_read_for_all_that(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x")
    with NameReader() as reader:
        with pytest.raises(OSError) as caught:
            reader.read(f"{tmp_path}/{name}")
        assert caught.value.filename == f"{tmp_path}/{name}"
        assert reader.read(f"{tmp_path}/a/file")[1] is None


def test_it_leaves_no_folder_open(tmp_path: Path) -> None:
    def count_open() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count_open()
    with NameReader() as reader:
        reader.read(str(tmp_path))
        reader.read(str(tmp_path.parent))
        assert count_open() == before + 1
    assert count_open() == before
