"""The golden files of messages: what differs from run to run has a name in them, and each section is one message."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import messages


def test_what_differs_from_run_to_run_gets_a_name_and_the_longest_is_named_first() -> None:
    text = f"/tmp/7/set/a.001: found {'ab' * 32} below /tmp/7\n"
    assert messages.plain(text, {"tmp": "/tmp/7", "set": "/tmp/7/set"}) == (
        "{set}/a.001: found {digest} below {tmp}"
    )


def test_sections_survive_their_file_whatever_their_order(tmp_path: Path) -> None:
    sections = {"two lines": "first\n  second", "nothing": "", "a blank line": "above\n\nbelow"}
    messages.write(tmp_path / "area.txt", sections)
    assert messages.read(tmp_path / "area.txt") == sections
    assert list(messages.read(tmp_path / "area.txt")) == sorted(sections)


@pytest.mark.parametrize("path", sorted(messages.FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_a_golden_file_is_as_it_would_be_written(path: Path, tmp_path: Path) -> None:
    messages.write(tmp_path / path.name, messages.read(path))
    assert (tmp_path / path.name).read_text() == path.read_text()


def test_a_message_that_changed_fails_and_one_that_is_new_says_how_to_write_it(
    told: messages.Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    if pytestconfig.getoption("--rewrite-messages"):
        pytest.skip("what differs is written, not refused")
    monkeypatch.setattr(messages, "FOLDER", tmp_path)
    messages.write(tmp_path / "area.txt", {"known": "{place}: as it was"})
    told("area", "known", "/x: as it was", place="/x")
    with pytest.raises(AssertionError, match="as it was"):
        told("area", "known", "/x: otherwise", place="/x")
    with pytest.raises(AssertionError, match="--rewrite-messages"):
        told("area", "new", "words")
    assert messages.read(tmp_path / "area.txt") == {"known": "{place}: as it was"}
