"""When `make release` makes the tag, and when it does not."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler import __version__
from scripts import release

TODAY = datetime.date(2030, 1, 31)
CHANGELOG = (
    f"# Changelog\n\n## Unreleased\n\nNothing yet.\n\n## [{__version__}] - 2030-01-31\n\n### Added\n\n- All.\n"
)


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that is ready for a release; lint, tests, build and wheel are not run, and pass."""
    folder = tmp_path / "clone"
    kept = folder / "tests/releases" / ".".join(__version__.split(".")[:2])
    kept.mkdir(parents=True)
    (kept / "release.json").write_text("{}")
    (folder / "CHANGELOG.md").write_text(CHANGELOG.replace("2030-01-31", "2026-01-01"))
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "config", "user.name", "a")
    git(folder, "config", "user.email", "a@b.c")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All")
    monkeypatch.setattr(release, "ROOT", folder)
    monkeypatch.setattr(release, "check_all", lambda commit, tests=True: None)
    monkeypatch.setattr(release, "can_compile", lambda machine: True)
    return folder


def test_a_release_is_tagged_when_all_checks_pass(clone: Path) -> None:
    done = CliRunner().invoke(release.main, ["tag"])
    assert done.exit_code == 0, done.output
    assert git(clone, "tag", "--list") == f"v{__version__}"
    assert git(clone, "cat-file", "-t", f"v{__version__}") == "tag"
    assert git(clone, "rev-parse", f"v{__version__}^{{commit}}") == git(clone, "rev-parse", "HEAD")
    again = CliRunner().invoke(release.main, ["tag"])
    assert again.exit_code == 1
    assert f"the tag v{__version__} is there already" in again.output


def test_a_dry_run_tags_nothing(clone: Path) -> None:
    done = CliRunner().invoke(release.main, ["dry-run"])
    assert (done.exit_code, done.output) == (0, f"`make release` would tag v{__version__}\n")
    assert git(clone, "tag", "--list") == ""


@pytest.mark.parametrize("command", ["tag", "dry-run"])
def test_a_failed_check_leaves_no_tag(clone: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def fail(commit: str, tests: bool = True) -> None:
        raise release.CheckFailedError("`make lint` ended with exit code 2")

    monkeypatch.setattr(release, "check_all", fail)
    done = CliRunner().invoke(release.main, [command])
    assert done.exit_code == 1
    assert "`make lint` ended with exit code 2" in done.output
    assert git(clone, "tag", "--list") == ""


def test_what_the_checks_leave_in_the_tree_stops_the_tag(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "check_all", lambda commit, tests=True: (clone / "left.txt").touch())
    assert CliRunner().invoke(release.main, ["tag"]).exit_code == 1
    assert git(clone, "tag", "--list") == ""


def test_a_machine_that_cannot_compile_for_all_makes_no_release(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "can_compile", lambda machine: machine == "x86_64")
    done = CliRunner().invoke(release.main, ["tag"])
    assert done.exit_code == 1
    assert "- no compiler for aarch64: expected aarch64-linux-gnu-gcc" in done.output
    assert git(clone, "tag", "--list") == ""


def test_every_fault_of_the_tree_is_named(clone: Path) -> None:
    git(clone, "switch", "--quiet", "--create", "other")
    git(clone, "rm", "--quiet", "-r", "tests")
    (clone / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    done = CliRunner().invoke(release.main, ["tag"])
    assert done.exit_code == 1
    assert [line.split(":")[0] for line in done.output.splitlines() if line.startswith("- ")] == [
        "- expected a clean working tree, found changes",
        "- expected the branch main, found other",
        "- CHANGELOG.md",
        f"- {clone}/tests/releases/{'.'.join(__version__.split('.')[:2])} is missing",
    ]
    assert git(clone, "tag", "--list") == ""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Nothing yet.", "", None),
        (f"[{__version__}]", __version__, None),
        ("## Unreleased", "## Later", "expected `## Unreleased` as the first heading"),
        ("Nothing yet.", "- A line.", f"move it to {__version__}:\n- A line."),
        (__version__, "9.9.9", "as newest, found 9.9.9"),
        (" - 2030-01-31", "", "YYYY-MM-DD`, found"),
        ("2030-01-31", "soon", "YYYY-MM-DD`, found"),
        ("2030-01-31", "2030-02-01", "is in the future"),
    ],
)
def test_the_newest_heading_of_the_changelog_is_this_version_with_its_day(
    old: str, new: str, fault: str | None
) -> None:
    found = list(release.find_changelog_faults(CHANGELOG.replace(old, new), __version__, TODAY))
    assert (found == []) if fault is None else (len(found) == 1 and fault in found[0])
