"""Verifying what stands on a disk: a file, its volumes, or one of them alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import FormatError
from bundler.format.reader import BundleReader
from bundler.verify.files import verify_files
from tests.format.test_find import make_bundle, split


def test_a_file_is_read_whole_and_progress_adds_up(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    totals: list[int] = []
    counts: list[int] = []
    report = verify_files(bundle, jobs=2, on_total=totals.append, progress=counts.append)
    with BundleReader(bundle) as reader:
        assert (report.ok, report.digest, report.files) == (True, reader.digest, 2)
        assert totals == [reader.index.tar_bytes] == [sum(counts)]


def test_volumes_are_one_bundle_and_one_of_them_is_checked_alone_with_a_note(tmp_path: Path) -> None:
    volumes = split(make_bundle(tmp_path))
    notes: list[str] = []
    whole = verify_files(volumes, on_note=notes.append)
    assert (whole.ok, whole.files, notes) == (True, 2, [])
    alone = verify_files(volumes[1], on_note=notes.append)
    assert (alone.ok, alone.files, alone.digest, len(notes)) == (True, 1, whole.digest, 1)


def test_damage_in_a_volume_alone_is_found_and_the_others_are_not_blamed(tmp_path: Path) -> None:
    volumes = split(make_bundle(tmp_path))
    content = bytearray(volumes[1].read_bytes())
    content[-1] ^= 1
    volumes[1].write_bytes(content)
    [fault] = verify_files(volumes[1]).faults
    assert (fault.kind, fault.path) == ("changed", str(volumes[1]))
    assert verify_files(volumes[0]).ok


def test_what_is_no_bundle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    for path in (tmp_path / "text", tmp_path / "nothing"):
        with pytest.raises(FormatError):
            verify_files(path)
