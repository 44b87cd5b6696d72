"""bundler.text.reader: dataclasses are read from YAML and JSON by the same rules, and all faults are found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from bundler.text import strict_json, strict_yaml
from bundler.text.fault import Fault, InvalidFileError
from bundler.text.reader import MAX_FAULTS, Reader
from bundler.text.rules import Key, Rule, key
from bundler.text.schema import schema_text
from bundler.text.trees import JsonTree, YamlTree

Word = Annotated[str, Rule(check=lambda text: None if text.isalpha() else "expected letters")]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part.

    Attributes:
        word: A word.
        count: How many.
    """

    word: Word
    count: int = key(1, Key(name="number", synonyms=("amount",)), at_least=0, at_most=2**63 - 1)
    place: str = key("", Key(filled_with="path"))

    def conflicts(self) -> Iterable[tuple[str, str]]:
        if self.word == "none" and self.count:
            yield "number", "expected 0 of none"


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A whole.

    Attributes:
        parts: Its parts.
    """

    parts: tuple[Part, ...]
    ratio: float | None = key(0.5, above=0, below=1)
    mode: Literal["fast", "slow"] = "fast"
    flag: bool = False
    tags: Mapping[Word, tuple[str, ...] | str] = dataclasses.field(default_factory=dict)
    names: tuple[str, ...] = key((), Key(unique=True))


def read_yaml(text: str) -> tuple[Whole | None, tuple[Fault, ...]]:
    reader = Reader(YamlTree())
    return reader.read(Whole, strict_yaml.read(text)), reader.faults


def read_json(tree: object) -> tuple[Whole | None, tuple[Fault, ...]]:
    reader = Reader(JsonTree())
    return reader.read(Whole, strict_json.read(json.dumps(tree))), reader.faults


def test_yaml_and_json_are_read_into_the_same_value() -> None:
    tree = {
        "parts": [{"word": "a", "number": 2}, {"word": "b"}],
        "ratio": None,
        "mode": "slow",
        "flag": True,
        "tags": {"x": "one", "y": ["two", "three"]},
    }
    expected = Whole(
        parts=(Part(word="a", count=2, place="parts[0]"), Part(word="b", place="parts[1]")),
        ratio=None,
        mode="slow",
        flag=True,
        tags={"x": "one", "y": ("two", "three")},
    )
    assert read_json(tree) == (expected, ())
    assert read_yaml(json.dumps(tree)) == (expected, ())


def test_every_fault_of_a_yaml_file_has_its_path_and_line_in_the_order_of_the_file() -> None:
    _, faults = read_yaml(
        """\
mode: fats
flag: yes
ratio: 1.5
names: [a, a, "", 3]
tags: {x: {y: z}, "2": a}
parts:
  - {word: a1, number: -1}
  - {amount: 2, word: none}
  - text
  - number: none
"""
    )
    assert faults == (
        Fault("mode", 1, "expected one of fast, slow; found fats; did you mean fast?"),
        Fault("flag", 2, "expected true or false, found yes"),
        Fault("ratio", 3, "expected below 1, found 1.5"),
        Fault("names[1]", 4, "'a' is in the list twice"),
        Fault("names[2]", 4, "expected text, found an empty one"),
        Fault("names[3]", 4, 'expected text, found a number (3); quote it: "3"'),
        Fault("tags.x", 5, "expected a list, found a mapping"),
        Fault("tags.2", 5, "expected letters"),
        Fault("parts[0].word", 7, "expected letters"),
        Fault("parts[0].number", 7, "expected at least 0, found -1"),
        Fault("parts[1].amount", 8, "unknown key; did you mean number?"),
        Fault("parts[2]", 9, "expected an entry with keys, found text"),
        Fault("parts[3].word", 10, "missing"),
        Fault("parts[3].number", 10, "expected a whole number, found none"),
    )


def test_every_fault_of_a_json_file_has_its_path() -> None:
    _, faults = read_json(
        {
            "parts": [{"word": 1, "number": True}, 3, {"number": 2.5, "word": "none"}],
            "flag": 1,
            "ratio": "x",
            "mod": 1,
        }
    )
    assert faults == (
        Fault("mod", None, "unknown key; did you mean mode?"),
        Fault("parts[0].word", None, "expected a string, found a number"),
        Fault("parts[0].number", None, "expected a number, found true or false"),
        Fault("parts[1]", None, "expected an object, found a number"),
        Fault("parts[2].number", None, "expected a number, found 2.5 (not whole)"),
        Fault("ratio", None, "expected a number or null, found 'x'"),
        Fault("flag", None, "expected true or false, found 1"),
    )


def test_a_conflict_between_keys_is_looked_for_only_where_each_is_right() -> None:
    assert read_json({"parts": [{"word": "none", "number": 1}]})[1] == (
        Fault("parts[0].number", None, "expected 0 of none"),
    )
    assert read_json({"parts": [{"word": "none", "number": 1, "x": 1}]})[1] == (
        Fault("parts[0].x", None, "unknown key; known keys: word, number"),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**63, "expected at most 9,223,372,036,854,775,807, found 9223372036854775808"),
        (10**4299, "expected at most 9,223,372,036,854,775,807, found one of 4,300 digits"),
        (1e300, "expected a number, found 1e+300 (not whole)"),
        ("\x1b[2J", "expected a number, found '\\x1b[2J'"),
        ([[[]]], "expected a number, found a list"),
    ],
)
def test_a_number_that_is_none_is_told_in_few_words(value: object, message: str) -> None:
    assert read_json({"parts": [{"word": "a", "number": value}]})[1] == (Fault("parts[0].number", None, message),)


@pytest.mark.parametrize("digits", ["9" * 5000, "1" * 500_000 + "x", "1_" * 250_000])
def test_a_number_of_many_digits_in_yaml_is_refused_before_this_test_times_out(digits: str) -> None:
    (fault,) = read_yaml(f"parts: [{{word: a, number: {digits}}}]\nratio: 0.5")[1]
    assert fault.path == "parts[0].number"
    assert fault.message.startswith(f"expected a whole number, found '{digits[:80]}'… (")


def test_a_control_character_in_a_text_is_refused_and_reaches_no_terminal() -> None:
    _, faults = read_yaml('parts: []\nnames: ["a\\e[2J", "b\\0"]\n"\\e]0;x\\a": 1')
    assert [fault.path for fault in faults] == ["names[0]", "names[1]", "\x1b]0;x\x07"]
    message = str(InvalidFileError("w.yaml", faults))
    assert message == (
        "w.yaml: 3 faults\n"
        "  names[0] (line 2): 'a\\x1b[2J' has a control character\n"
        "  names[1] (line 2): 'b\\x00' has a control character\n"
        "  \\x1b]0;x\\x07 (line 3): unknown key; known keys: parts, ratio, mode, flag, tags, names"
    )


def test_a_file_of_nothing_but_faults_ends_in_an_error_of_bounded_length() -> None:
    _, faults = read_json({f"word{number}": 0 for number in range(200_000)})
    assert len(faults) == MAX_FAULTS + 1
    assert faults[-1].message == "more than 1,000 faults; the rest was not checked"
    assert len(str(InvalidFileError("w.json", faults)).splitlines()) == 22


def test_a_fault_that_is_one_too_many_raises_nothing_at_whoever_notes_it() -> None:
    reader = Reader(JsonTree())
    for number in range(MAX_FAULTS + 5):
        reader.fault(f"x{number}", "wrong")
    assert len(reader.faults) == MAX_FAULTS + 1


def test_one_fault_is_counted_in_the_singular() -> None:
    assert InvalidFileError("w.yaml", [Fault("", None, "empty")]).message == "w.yaml: 1 fault\n  empty"


def test_a_list_of_very_many_names_is_checked_for_repeats_before_this_test_times_out() -> None:
    whole, faults = read_json({"parts": [], "names": [f"name{number}" for number in range(300_000)]})
    assert faults == ()
    assert whole is not None
    assert len(whole.names) == 300_000


def test_a_type_that_no_file_can_be_read_into_is_a_mistake_of_ours() -> None:
    @dataclass
    class Odd:
        value: set[str]

    with pytest.raises(TypeError, match="no file can be read into"):
        Reader(JsonTree()).read(Odd, {"value": []})


def test_the_schema_says_what_the_reader_checks() -> None:
    schema = json.loads(schema_text(Whole, title="Whole", description="A whole.", maxProperties=6))
    assert schema["title"] == "Whole"
    assert schema["required"] == ["parts"]
    assert schema["maxProperties"] == 6
    assert schema["properties"]["parts"] == {
        "description": "Its parts.",
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["word"],
            "properties": {
                "word": {"description": "A word.", "type": "string"},
                "number": {
                    "description": "How many.",
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 2**63 - 1,
                    "default": 1,
                },
            },
        },
    }
    assert schema["properties"]["ratio"] == {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "default": 0.5,
    }
    assert schema["properties"]["mode"] == {"type": "string", "enum": ["fast", "slow"], "default": "fast"}
