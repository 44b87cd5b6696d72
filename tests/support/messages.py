"""What people are told, whole, in one golden file an area: `tests/golden/messages/AREA.txt`.

A test asserts what a failure is (class, exit code, path, value) and hands its words to the fixture `told`, which
compares them with their section in the file. So a change of wording touches one file, and is read there as a user
reads it.

    pytest --rewrite-messages tests/hostile

writes the sections that these tests meet. To drop sections that no test meets any more, delete the file first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "golden" / "messages"
_SECTION = re.compile(r"^== (.+)\n((?:(?!== ).*\n)*)", re.MULTILINE)
# SHA-256 and BLAKE3: of what is compressed they change with the release of zstd. Tests assert them as values.
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")

# What this run has written, by file and section: two tests that share a section must agree.
_WRITTEN: pytest.StashKey[dict[tuple[Path, str], str]] = pytest.StashKey()

Told = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-messages", action="store_true", help="write tests/golden/messages anew")


def pytest_configure(config: pytest.Config) -> None:
    # Workers would overwrite each other's sections.
    config.stash[_WRITTEN] = {}
    if config.getoption("--rewrite-messages") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--rewrite-messages writes from one process: leave out -n")


@pytest.fixture
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Compare what is told with a section of a golden file.

    Args of the returned function:
        area: Which file: ``tests/golden/messages/AREA.txt``.
        section: Which part of it; a sentence of what is the matter.
        words: An error, or the text itself.
        places: What differs from run to run, as NAME=VALUE; the file has ``{NAME}`` in its place.
    """
    rewrite: bool = request.config.getoption("--rewrite-messages")
    scratch = str(tmp_path_factory.getbasetemp())

    def compare(area: str, section: str, words: object, **places: object) -> None:
        path = FOLDER / f"{area}.txt"
        said = plain(str(words), {name: str(value) for name, value in places.items()})
        assert scratch not in said, f"name the temporary folder as one of the places: {said}"
        sections = read(path)
        if rewrite and request.config.stash[_WRITTEN].setdefault((path, section), said) == said:
            write(path, sections | {section: said})
            return
        assert section in sections, f"{path} has no section {section!r}: run this test with --rewrite-messages"
        assert said == sections[section]

    return compare


def plain(text: str, places: dict[str, str]) -> str:
    """Return `text` with names for what differs from run to run, longest first: a folder before the one it is in."""
    for name, value in sorted(places.items(), key=lambda place: -len(place[1])):
        text = text.replace(value, f"{{{name}}}")
    return _DIGEST.sub("{digest}", text).rstrip("\n")


def read(path: Path) -> dict[str, str]:
    """Return the sections of a golden file; none if there is no file."""
    if not path.exists():
        return {}
    return {name: body.rstrip("\n") for name, body in _SECTION.findall(path.read_text())}


def write(path: Path, sections: dict[str, str]) -> None:
    """Write a golden file, its sections in the order of their names."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(f"== {name}\n{body}\n" for name, body in sorted(sections.items())))
