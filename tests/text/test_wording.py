"""bundler.text.wording."""

from __future__ import annotations

import pytest

from bundler.text.wording import close_matches, close_names, counted, did_you_mean, printable, quoted


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
