"""The floor under coverage, which `make test` ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.coverage_floor import FLOOR, main


@pytest.mark.parametrize(("found", "code"), [(FLOOR, 0), (FLOOR - 0.1, 1)])
def test_less_than_the_floor_fails_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], found: float, code: int
) -> None:
    report = tmp_path / "coverage.json"
    report.write_text(json.dumps({"summary": {"percent_covered": found}}))
    assert main(report) == code
    assert f"{found:.1f} % (floor {FLOOR:g} %)" in capsys.readouterr().err
