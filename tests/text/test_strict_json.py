"""bundler.text.strict_json: what is refused, in words."""

from __future__ import annotations

import json

import pytest

from bundler.text import strict_json
from bundler.text.strict_json import StrictJsonError


def test_json_is_read_as_json_reads_it() -> None:
    text = '{"a": [1, 2.5, true, null, "\\ud83d\\ude00 ü"], "b": {"c": ""}}'
    assert strict_json.read(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "Expecting value: line 1 column 1 (char 0)", id="empty"),
        pytest.param("{", "Expecting property name", id="cut short"),
        pytest.param('{"a": 1, "a": 2}', "key 'a' appears twice in one object", id="twice"),
        pytest.param('{"b": {"a": 1, "c": 2, "a": 2}}', "key 'a' appears twice in one object", id="twice below"),
        pytest.param("[NaN]", "NaN is not a number in JSON", id="NaN"),
        pytest.param("[-Infinity]", "-Infinity is not a number in JSON", id="infinity"),
        pytest.param("9" * 4301, "a number has more than 4,300 digits", id="digits"),
        pytest.param("[" * 100_000, "nested too deeply", id="lists"),
        pytest.param('{"a":' * 100_000, "nested too deeply", id="objects"),
        pytest.param('["\\ud800"]', "'\\ud800' is not valid Unicode", id="half of a pair"),
        pytest.param('{"\\uDFFF": 1}', "'\\udfff' is not valid Unicode", id="half of a pair as a key"),
        pytest.param('[[{"a": "x\\udc00"}]]', "'x\\udc00' is not valid Unicode", id="half of a pair far below"),
        pytest.param('["\ud800"]', "'\\ud800' is not valid Unicode", id="half of a pair that is no escape"),
        pytest.param('["a\nb"]', "Invalid control character", id="a newline in a string"),
    ],
)
def test_what_is_no_plain_json_is_refused_in_words(text: str, problem: str) -> None:
    with pytest.raises(StrictJsonError) as caught:
        strict_json.read(text)
    assert problem in str(caught.value)


def test_a_key_that_stands_twice_among_very_many_is_found_before_this_test_times_out() -> None:
    keys = [f"{number:x}" for number in range(300_000)]
    text = "{" + ",".join(f'"{key}":0' for key in [*keys, keys[-1]]) + "}"
    with pytest.raises(StrictJsonError, match="key '493df' appears twice"):
        strict_json.read(text)
