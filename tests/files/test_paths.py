"""bundler.files.paths: what counts as a plain relative path."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import FormatError
from bundler.files.paths import check_relative_path, inside, relative_path_problem
from tests.support.messages import Told


@pytest.mark.parametrize("path", ["a", "a/b.json", ".no_exist/x", "1_Pool/x.json", "ünï/日本.txt", "a b", "..."])
def test_a_plain_relative_path_is_accepted_unchanged(path: str) -> None:
    assert check_relative_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a/./b",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "a\nb",
        "a\0b",
        "\ud800",
    ],
)
def test_a_path_that_could_leave_its_root_or_be_spelt_twice_is_refused(path: str, told: Told) -> None:
    with pytest.raises(FormatError) as caught:
        check_relative_path(path, what="files[0]")
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    told("paths", f"the path {path!a}", caught.value)


def test_names_longer_than_file_systems_take_are_refused(told: Told) -> None:
    with pytest.raises(FormatError) as caught:
        check_relative_path("a/" + "ä" * 128)
    assert caught.value.exit_code == 7
    told("paths", "a name of 256 bytes", caught.value)
    assert check_relative_path("ä" * 127)


def test_inside_joins_below_the_root(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b") == tmp_path / "a" / "b"


def test_a_path_of_very_many_folders_is_refused() -> None:
    assert relative_path_problem("a/" * 199 + "b") is None
    assert "has more than 200 folders" in str(relative_path_problem("a/" * 200 + "b"))
