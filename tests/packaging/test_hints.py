"""What messages tell people to read and to install is there for those who have nothing but the wheel."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from bundler import __version__
from bundler.make.proof.findings import INSTALL_HINT
from bundler.text.documents import REPOSITORY, document_address

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("bundler", "infini_llama") for path in (ROOT / package).rglob("*.py"))
# The first thing that a line installs, behind options and their files.
INSTALLED = re.compile(r"pip install(?: +-\S+(?: +\S+\.txt)?)* +['\"]?([\w.-]+)")


def configuration() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_document_that_a_message_names_is_in_the_repository_and_in_the_wheel() -> None:
    shipped = configuration()["options.data_files"]
    files = {file for folder in shipped.values() for file in folder.split()}
    named = {
        name for path in SOURCES for name in re.findall(r"document_address\(['\"](.+?)['\"]\)", path.read_text())
    }
    assert named >= {"OFFLINE_MODE.md#exit-codes", "manifests/README.md#keys"}
    for name in named:
        path, _, anchor = name.partition("#")
        assert path in files
        assert anchor in anchors((ROOT / path).read_text())


def test_documents_stand_in_the_wheel_under_their_paths_in_the_repository() -> None:
    for folder, files in configuration()["options.data_files"].items():
        for file in files.split():
            assert Path(folder, Path(file).name) == Path("share/doc/infini-llama", file)
            assert (ROOT / file).is_file()


def test_the_address_of_a_document_is_that_of_this_version() -> None:
    assert document_address("SECURITY.md") == f"{REPOSITORY}/blob/v{__version__}/SECURITY.md"
    assert configuration()["metadata"]["url"] == REPOSITORY


def test_the_packages_that_a_proof_asks_for_are_those_of_the_extra() -> None:
    wanted = configuration()["options.extras_require"]["train"].split("\n")
    assert "pip install " + " ".join(f"'{line.replace(' ', '')}'" for line in wanted if line) == INSTALL_HINT


def test_nothing_tells_people_to_install_a_package_that_we_do_not_know() -> None:
    # This project is not on PyPI: a stranger may take its name, so a clone installs itself as `.`.
    pins = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    known = pins | {"tensorboard", "wandb", "mlflow", "pre-commit", "obstore", "boto3"}
    pages = [path for path in ROOT.rglob("*.md") if not any(part.startswith(".") for part in path.parts)]
    code = [*SOURCES, *(ROOT / "demo").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    named = {
        (name, path.relative_to(ROOT).as_posix())
        for path in [*code, *pages]
        for name in INSTALLED.findall(path.read_text())
        if not name.startswith(".")
    }
    assert {name for name, _ in named} >= {"torch", "socksio", "tensorboard"}
    assert {(name, path) for name, path in named if name not in known} == set()
