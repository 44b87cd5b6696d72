"""bundler.text.strict_yaml: escapes that make no text. What else is refused stands in tests/plan/test_manifest.py."""

from __future__ import annotations

import pytest

from bundler.text import strict_yaml
from bundler.text.strict_yaml import StrictYamlError


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        pytest.param('a: 1\nb: "\\ud800"', 2, "'\\ud800' is not valid Unicode", id="half of a pair"),
        pytest.param('a: 1\n"x\\udfff": 1', 2, "'x\\udfff' is not valid Unicode", id="half of a pair in a key"),
        pytest.param(
            'a: ["\\ud83d\\ude00"]', 1, "is not valid Unicode", id="two halves, which YAML does not join"
        ),
        pytest.param('a: "\\U00110000"', None, "is not a Unicode character", id="beyond Unicode"),
        pytest.param('a: "\\UFFFFFFFF"', None, "is not a Unicode character", id="far beyond Unicode"),
        pytest.param('a: "\ud800"', 1, "is not allowed in YAML", id="half of a pair that is no escape"),
    ],
)
def test_an_escape_that_makes_no_text_is_refused(text: str, line: int | None, problem: str) -> None:
    with pytest.raises(StrictYamlError) as caught:
        strict_yaml.read(text)
    assert caught.value.line == line
    assert problem in caught.value.problem
