"""What the pages of people name is there: functions, files, links, words, figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate.sources import ROOT, definition

PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [*PAGES, *ROOT.glob("*.md"), *(ROOT / "manifests").glob("*.md"), ROOT / "bundler/FORMAT.md"]
_MARK = re.compile(r"`([\w./]+\.py):([\w.]+)`")
_FILE = re.compile(r"`((?:bundler|infini_llama|tests|docs|benchmarks|manifests)/[\w./-]*)`")
_LINK = re.compile(r"\]\((?!https?:)([^)\s]*)\)")
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)


def _without_code(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _without_code(page), re.M)
    words = ["".join(char for char in text.lower() if char.isalnum() or char in " -_") for text in headings]
    return {text.replace(" ", "-") for text in words}


def test_every_function_that_a_page_names_exists() -> None:
    wrong = []
    for page in PAGES:
        for path, name in _MARK.findall(page.read_text()):
            try:
                definition(f"{path}:{name}")
            except LookupError as error:
                wrong.append(f"{page.relative_to(ROOT)}: {error}")
    assert wrong == []


def test_every_file_that_a_page_names_exists() -> None:
    named = {(page, path) for page in PAGES for path in _FILE.findall(page.read_text())}
    assert [(str(page), path) for page, path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_link_leads_to_a_file_and_to_a_heading_in_it() -> None:
    wrong = []
    for page in DOCUMENTS:
        for link in _LINK.findall(_without_code(page)):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in _anchors(target)):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert wrong == []


@pytest.mark.parametrize(("walk", "most"), [("manifest entry", 20), ("tensor", 12)])
def test_each_step_of_a_walk_names_a_function_and_there_are_few(walk: str, most: int) -> None:
    text = (
        (ROOT / "docs/architecture.md")
        .read_text()
        .partition(f"## The walk of one {walk}\n")[2]
        .partition("\n## ")[0]
    )
    steps = re.findall(r"^(\d+)\. (.*(?:\n {3,}.*)*)", text, re.M)
    assert [int(number) for number, _ in steps] == list(range(1, len(steps) + 1))
    assert 0 < len(steps) <= most
    assert [number for number, step in steps if not _MARK.search(step)] == []


def test_the_glossary_has_each_word_once_in_order() -> None:
    text = (ROOT / "docs/glossary.md").read_text()
    words = []
    for section in text.split("\n## ")[1:]:
        rows = re.findall(r"^\| (?!word |---)(.*?) \| .+ \|$", section, re.M)
        plain = [row.strip("`").lower() for row in rows]
        assert plain == sorted(plain)
        words += plain
    assert len(set(words)) == len(words) > 50


def test_no_page_is_out_of_reach_of_the_index() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "docs/README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.is_file():
            reached.add(page)
            waiting += [
                (page.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(page.read_text())
            ]
    assert [str(page) for page in PAGES if page not in reached] == []
    assert "(docs/README.md)" in (ROOT / "README.md").read_text()


def test_every_decision_has_the_same_parts() -> None:
    parts = ["Context", "Decision", "Other ways", "Consequences"]
    for page in (ROOT / "docs/decisions").glob("[0-9]*.md"):
        assert re.findall(r"^## (.*)$", page.read_text(), re.M) == parts, page
