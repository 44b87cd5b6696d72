"""A zip of a repository: its files come out, and nothing that a hostile one would like."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from bundler.errors import FormatError
from bundler.hub.web import archive
from bundler.hub.web.archive import unpack
from tests.support.web import zip_of


def contents(data: bytes, folder: Path) -> dict[str, bytes]:
    (folder / "a.zip").write_bytes(data)
    (folder / "work").mkdir()
    return {name: place.read_bytes() for name, place in unpack(folder / "a.zip", folder / "work", "the zip")}


def test_files_come_out_below_the_one_folder(tmp_path: Path) -> None:
    found = contents(zip_of({"r-1/": b"", "r-1/b/c.py": b"c", "r-1/a.py": b"a"}), tmp_path)
    assert found == {"a.py": b"a", "b/c.py": b"c"}


def test_a_link_is_a_file_with_its_target(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        link = zipfile.ZipInfo("r/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, "/etc/passwd")
    assert contents(buffer.getvalue(), tmp_path) == {"link": b"/etc/passwd"}


@pytest.mark.parametrize(
    "members",
    [
        {"r/../../escaped": b""},
        {"/etc/passwd": b""},
        {"r//etc/passwd": b""},
        {"r/a\\..\\b": b""},
        {"r/a\x1b[2J": b""},
        {"../r/": b"", "r/a": b""},
        {"r/a": b"", "s/b": b""},
        {"a": b""},
        {"r/a": b"", "r/a/b": b""},
        {"r/": b""},
        {},
    ],
)
def test_names_that_lead_out_or_clash_are_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        contents(zip_of(members), tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} <= {"a.zip", "work", "member"}


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made, pytest.warns(UserWarning, match="Duplicate name"):
        made.writestr("r/a", b"1")
        made.writestr("r/a", b"2")
    with pytest.raises(FormatError, match="twice"):
        contents(buffer.getvalue(), tmp_path)


def test_bombs_are_refused_by_what_they_claim_and_by_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 1000)
    data = zip_of({"r/zeros": bytes(1 << 20)})
    with pytest.raises(FormatError, match="at most"):
        contents(data, tmp_path)
    # The length in the directory made small: what comes out is more.
    lying = data.replace((1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "work").rmdir() if (tmp_path / "work").exists() else None
    with pytest.raises(FormatError):
        contents(lying, tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"<html>log in</html>", zip_of({"r/a": b"abc"})[:-30]], ids=["empty", "page", "cut"]
)
def test_what_is_no_zip_file_is_said(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="expected a zip file"):
        contents(data, tmp_path)


def test_damage_is_found(tmp_path: Path) -> None:
    data = bytearray(zip_of({"r/a": bytes(range(256)) * 8}))
    data[60] ^= 1
    with pytest.raises(FormatError):
        contents(bytes(data), tmp_path)
