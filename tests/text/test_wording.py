"""bundler.text.wording: numbers, sizes, cut lists and guesses in messages."""

from __future__ import annotations

import pytest

from bundler.text.wording import (
    and_more,
    close_matches,
    close_names,
    counted,
    did_you_mean,
    name_some,
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
