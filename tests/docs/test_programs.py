"""The table of programs in docs/record.md is of the programs that there are."""

from __future__ import annotations

from tests.programs.run import DOCUMENT, MARKS, PROGRAMS, ROOT, SUITE


def test_the_table_has_every_program_and_every_test() -> None:
    rows = [line.split(" | ") for line in MARKS.read(DOCUMENT).splitlines()[2:]]
    assert [row[0].removeprefix("| ") for row in rows] == [one.what for one in (*PROGRAMS.values(), *SUITE)]
    assert [tested.test for tested in SUITE if not (ROOT / tested.test).is_file()] == []
