"""bundler.text.wording: numbers, sizes, cut lists and guesses in messages."""

from __future__ import annotations

import pytest

from bundler.text.wording import (
    and_more,
    close_matches,
    close_names,
    counted,
    did_you_mean,
    escaped_lines,
    has_control_character,
    name_some,
    on_screen,
    printable,
    quoted,
    size,
)


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (2000, "2,000 files")]
)
def test_a_noun_is_counted(number: int, said: str) -> None:
    assert counted(number, "file") == said


def test_what_may_have_been_meant_is_asked_for() -> None:
    known = ["revision", "repo_id", "aliases"]
    assert close_matches("revison", known) == ["revision"]
    assert did_you_mean("revison", known) == "did you mean revision?"
    assert did_you_mean("nothing like it", known) is None
    assert did_you_mean("abc", ["abd", "abe", "xyz"]) == "did you mean abe or abd?"
    assert close_names("revison", known) == "; did you mean revision?"
    assert close_names("nothing like it", known) == ""


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("a\x1b]0;x\x07\u202eb\ud800ü") == "a\\x1b]0;x\\x07\\u202eb\\ud800ü"
    assert quoted("a\x1b") == "'a\\x1b'"
    assert quoted("a" * 100) == f"'{'a' * 80}'… (100 characters)"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (91_234_567, "91.2 MB"),
        (1_500_000_000, "1.5 GB"),
        (16_061_000_000_000, "16.1 TB"),
        (1_234_000_000_000_000, "1,234 TB"),
    ],
)
def test_a_size_has_three_digits_and_the_unit_that_they_need(count: int, text: str) -> None:
    assert size(count) == text


def test_a_list_that_is_short_enough_is_shown_whole() -> None:
    assert and_more(["a", "b"], shown=2) == ["a", "b"]
    assert name_some(["a", "b"], shown=2) == "a, b"
    assert and_more([]) == [] and name_some([]) == ""


def test_a_longer_list_says_how_many_it_leaves_out() -> None:
    names = [str(number) for number in range(5000)]
    assert and_more(names, shown=2) == ["0", "1", "and 4,998 more"]
    assert and_more(names, shown=1, more="more targets") == ["0", "and 4,999 more targets"]
    assert name_some(names, separator="; ") == "0; 1; 2 and 4,997 more"


def test_a_list_of_the_first_ones_is_told_how_many_there_are() -> None:
    assert and_more(["a", "b"], total=2) == ["a", "b"]
    assert and_more(["a", "b"], total=9) == ["a", "b", "and 7 more"]
    assert name_some(["a", "b"], shown=20, total=9) == "a, b and 7 more"


def test_a_message_is_at_most_a_screen_with_its_beginning_and_its_end() -> None:
    assert on_screen("error: a\nhint: b") == "error: a\nhint: b"
    lines = on_screen("\n".join(["error", *map(str, range(1000)), "hint"])).split("\n")
    assert len(lines) == 60 and (lines[0], lines[-1]) == ("error", "hint") and "943 lines more" in "".join(lines)
    long = on_screen("a" * 100_000 + "z")
    assert len(long) < 6100 and long.endswith("az") and "94,001 characters more" in long


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u2066b", "a\\u2066b"),
        ("a\u2028b", "a\\u2028b"),
        ("a\ud800b", "a\\ud800b"),
        ("a\rb", "a\\rb"),
        ("é 東京 🦊…\n\tb", "é 東京 🦊…\n\tb"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped_in_a_message(text: str, shown: str) -> None:
    assert on_screen(text) == escaped_lines(text) == shown
    assert on_screen(text).encode()


def test_characters_that_no_name_may_have_are_told_from_letters_of_all_scripts() -> None:
    assert all(map(has_control_character, ["\0", "\n", "\x7f", "\x85", "\u2029", "\u202a", "\u2069"]))
    assert not any(map(has_control_character, ["é", "東", "א", "\u200f", "🦊", "\xa0"]))
