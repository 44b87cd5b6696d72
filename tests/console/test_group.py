"""A command that was mistyped: the error names the one that was meant, imported or not."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from bundler.cli import main as bundle
from infini_llama.cli import main as infini_llama


@pytest.mark.parametrize(
    ("group", "words", "said"),
    [
        (bundle, ["instal"], "No such command 'instal'; did you mean install?"),
        (bundle, ["cache", "pruen", "--older-than", "1d"], "No such command 'pruen'; did you mean prune?"),
        (infini_llama, ["trian"], "No such command 'trian'; did you mean train?"),
    ],
)
def test_the_error_names_the_command_that_was_meant(group: click.Group, words: list[str], said: str) -> None:
    done = CliRunner().invoke(group, words)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, f"Error: {said}")


def test_what_is_like_no_command_gets_no_suggestion() -> None:
    done = CliRunner().invoke(bundle, ["zzzz"])
    assert done.exit_code == 2
    assert "No such command 'zzzz'" in done.stderr and "mean" not in done.stderr
