"""Checks a release, and tags it when all is well: what `make dist`, `make release-dry-run` and `make release` run.

Rule book:

* packages are built from the commit, not from the working tree, so that nothing uncommitted gets into them;
* the tag is made last, on the commit that was checked, and nothing is published: RELEASE.md says what comes then.
"""

from __future__ import annotations

import datetime
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from bundler import __version__
from scripts.wheels import COMPILERS, build_command, build_environment, can_compile, check_wheel

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
_HEADING = re.compile(r"^## \[?(?P<name>[^\]\s]+)\]?(?: - (?P<date>\S+))?$", re.M)


class CheckFailedError(click.ClickException):
    """A check that stops the release."""


def run(*command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> None:
    """Run a command with its output on the terminal.

    Raises:
        CheckFailedError: It ended with another exit code than 0.
    """
    words = [str(word) for word in command]
    click.echo(f"$ {' '.join(words)}", err=True)
    code = subprocess.run(words, cwd=cwd, env=env, check=False).returncode
    if code:
        raise CheckFailedError(f"`{' '.join(words)}` ended with exit code {code}")


def ask_git(root: Path, *words: str) -> str:
    """Return what git prints in the folder `root`."""
    done = subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True)  # noqa: S607
    return done.stdout.strip()


def find_tree_faults(root: Path, version: str) -> Iterator[str]:
    """Yield what is wrong with the working tree, the branch and the tags."""
    if changed := ask_git(root, "status", "--porcelain"):
        yield f"expected a clean working tree, found changes:\n{changed}"
    if (branch := ask_git(root, "rev-parse", "--abbrev-ref", "HEAD")) != "main":
        yield f"expected the branch main, found {branch}"
    if ask_git(root, "tag", "--list", f"v{version}"):
        yield f"the tag v{version} is there already: set the next version in bundler/__init__.py"


def find_changelog_faults(changelog: str, version: str, today: datetime.date) -> Iterator[str]:
    """Yield what CHANGELOG.md lacks for a release of `version` on the day `today`."""
    headings = list(_HEADING.finditer(changelog))
    if not headings or headings[0]["name"] != "Unreleased":
        yield "CHANGELOG.md: expected `## Unreleased` as the first heading of its level"
        return
    end = headings[1].start() if len(headings) > 1 else len(changelog)
    waiting = changelog[headings[0].end() : end].strip()
    if waiting not in {"", "Nothing yet."}:
        yield f"CHANGELOG.md: expected nothing under Unreleased, move it to {version}:\n{waiting}"
    if len(headings) < 2:
        yield f"CHANGELOG.md: expected a heading `## {version} - YYYY-MM-DD`, found none"
        return
    name, date = headings[1]["name"], headings[1]["date"]
    if name != version:
        yield f"CHANGELOG.md: expected {version}, the version in bundler/__init__.py, as newest, found {name}"
    try:
        day = datetime.date.fromisoformat(date or "")
    except ValueError:
        yield f"CHANGELOG.md: expected `## {name} - YYYY-MM-DD`, found {headings[1][0]!r}"
    else:
        if day > today:
            yield f"CHANGELOG.md: the date of {name}, {day}, is in the future"


def find_kept_faults(root: Path, version: str) -> Iterator[str]:
    """Yield that what this version writes is not kept for the tests of later ones."""
    folder = root / "tests/releases" / ".".join(version.split(".")[:2])
    if not (folder / "release.json").is_file():
        yield f"{folder} is missing: run `python -m tests.releases.make` and commit it"


def find_faults(root: Path, version: str) -> list[str]:
    """Return all that stands against a release before anything is built."""
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    today = datetime.datetime.now(datetime.UTC).date()
    return [
        *find_tree_faults(root, version),
        *find_changelog_faults(changelog, version, today),
        *find_kept_faults(root, version),
        *find_compiler_faults(),
    ]


def find_compiler_faults() -> Iterator[str]:
    """Yield for which machines this one cannot compile."""
    for machine, compiler in COMPILERS.items():
        if not can_compile(machine):
            package = f"gcc-{machine.replace('_', '-')}-linux-gnu"
            yield f"no compiler for {machine}: expected {compiler}; Debian has it in {package}"


def build_packages(commit: str, machines: Iterable[str]) -> Path:
    """Build the sdist of a commit, and the wheel of each machine, into an empty `dist/`; check all.

    Returns:
        The wheel for this machine, which is to be among them.
    """
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        archive, sources = Path(scratch, "sources.tar"), Path(scratch, "sources")
        ask_git(ROOT, "archive", "--output", str(archive), commit)
        with tarfile.open(archive) as packed:
            packed.extractall(sources, filter="data")
        run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", DIST, sources)
        (sdist,) = DIST.glob("*.tar.gz")
        for machine in machines:
            # Of the sdist, as for those who build their own; in a folder without what was compiled for another machine.
            with tarfile.open(sdist) as packed:
                packed.extractall(Path(scratch, machine), filter="data")
            (unpacked,) = Path(scratch, machine).iterdir()
            run(*build_command(unpacked, DIST, machine), env=build_environment(machine))
            (wheel,) = DIST.glob(f"*_{machine}.whl")
            check_wheel(wheel, machine)
    wheels = sorted(DIST.glob("*.whl"))
    run(sys.executable, "-m", "abi3audit", "--strict", "--summary", *wheels)
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(DIST.iterdir()))
    (own,) = DIST.glob(f"*_{platform.machine()}.whl")
    return own


def try_wheel(wheel: Path) -> None:
    """Install the wheel with all that it requires into an empty environment, and use the command on a kept bundle."""
    bundles = sorted((ROOT / "tests/releases").glob("*/auto.tar.zst"))
    with tempfile.TemporaryDirectory() as scratch:
        binaries = Path(scratch, "environment/bin")
        run(sys.executable, "-m", "venv", binaries.parent)
        pip = (binaries / "python", "-m", "pip", "--disable-pip-version-check")
        run(*pip, "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
        run(*pip, "check")
        run(binaries / "bundle", "--version", cwd=Path(scratch))
        run(binaries / "infini-llama", "--version", cwd=Path(scratch))
        home = Path(scratch, "home")
        run(binaries / "bundle", "install", bundles[-1], "--hf-home", home, cwd=Path(scratch))
        run(binaries / "bundle", "verify", "golden", "--hf-home", home, cwd=Path(scratch))


def check_all(commit: str, *, tests: bool = True) -> None:
    """Run lint, the tests, the build and the wheel.

    Raises:
        CheckFailedError: One of them failed.
    """
    run("make", "lint")
    if tests:
        run("make", "test")
    try_wheel(build_packages(commit, COMPILERS))


def describe(faults: list[str]) -> str:
    """Return faults as a message of all of them."""
    return "not ready for a release:\n" + "\n".join(f"- {fault}" for fault in faults)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Check and tag a release."""


@main.command()
def dist() -> None:
    """Build the sdist and the wheels of the last commit into dist/, and check them."""
    for fault in find_compiler_faults():
        click.echo(f"left out: {fault}", err=True)
    try_wheel(build_packages(ask_git(ROOT, "rev-parse", "HEAD"), filter(can_compile, COMPILERS)))
    click.echo(f"ready in {DIST}: {', '.join(sorted(path.name for path in DIST.iterdir()))}")


@main.command("dry-run")
@click.option("--without-tests", is_flag=True, help="Leave out the test suite.")
def dry_run(without_tests: bool) -> None:
    """Check everything and tag nothing; say at the end all that stands against the release."""
    faults = find_faults(ROOT, __version__)
    try:
        check_all(ask_git(ROOT, "rev-parse", "HEAD"), tests=not without_tests)
    except CheckFailedError as failure:
        faults.append(failure.message)
    if faults:
        raise CheckFailedError(describe(faults))
    left_out = ", but for the tests, which were left out" if without_tests else ""
    click.echo(f"`make release` would tag v{__version__}{left_out}")


@main.command()
def tag() -> None:
    """Check everything, and tag the last commit if all is well."""
    commit = ask_git(ROOT, "rev-parse", "HEAD")
    if faults := find_faults(ROOT, __version__):
        raise CheckFailedError(describe(faults))
    check_all(commit)
    # Minutes have passed, and the tests ran in this tree.
    if faults := find_faults(ROOT, __version__):
        raise CheckFailedError(describe(faults))
    ask_git(ROOT, "tag", "--annotate", f"v{__version__}", "--message", f"infini-llama {__version__}", commit)
    click.echo(f"tagged {commit[:12]} as v{__version__}; RELEASE.md says how to publish it")


if __name__ == "__main__":
    main()
