"""The places in documents that `make` targets write."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.lib.marks import END, Marks

FIRST, SECOND = Marks("first"), Marks("second")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(f"above\n{FIRST.begin}\nold\n{END}\nbetween\n{SECOND.begin}\nother\n{END}\nbelow\n")
    return path


def test_only_what_stands_between_the_marks_is_replaced(document: Path) -> None:
    FIRST.write(document, "new\nlines")
    expected = f"above\n{FIRST.begin}\nnew\nlines\n{END}\nbetween\n{SECOND.begin}\nother\n{END}\nbelow\n"
    assert document.read_text() == expected
    assert (FIRST.read(document), SECOND.read(document)) == ("new\nlines", "other")


def test_a_place_may_be_empty(document: Path) -> None:
    FIRST.write(document, "")
    assert FIRST.read(document) == ""


def test_a_document_without_the_place_is_left_as_it_is(document: Path) -> None:
    before = document.read_bytes()
    assert not Marks("third").stand_in(document)
    with pytest.raises(
        ValueError, match="expected the lines '<!-- begin: written by `make third`, do not edit -->'"
    ):
        Marks("third").write(document, "new")
    assert document.read_bytes() == before
    assert FIRST.stand_in(document)
    assert not FIRST.stand_in(document.with_name("missing.md"))
