"""The files that GitHub and pre-commit read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FORMS = [path for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_asks_for(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in asked)
    names = [field["id"] for field in asked]
    assert len(set(names)) == len(names)
    assert any(field.get("validations", {}).get("required") for field in asked)


def test_a_bug_report_comes_with_what_doctor_says() -> None:
    labels = [field["attributes"].get("label") for field in read(ROOT / ".github/ISSUE_TEMPLATE/bug.yml")["body"]]
    assert "bundle doctor --json" in labels


def test_hooks_run_the_tools_that_lint_runs_and_download_nothing() -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    tools = [re.sub(r" \.$| --force-exclude", "", words) for words in re.findall(r"\$\(BIN\)/(.+)", recipe)]
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert [re.sub(r" --force-exclude", "", entry) for entry in entries] == tools
