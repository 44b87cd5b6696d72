"""What the installed bundles lack of what a library wanted, and which line of the manifest would bring it.

The guard loads this as it loads `caller`, when there is something to say: the standard library only. Receipts are read
for advice, and not verified here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bundler.offline.guard.caller import Wanted

_AGAIN = "in the manifest, then fetch and install again"


class InstalledRepo(NamedTuple):
    """A repo of an installed bundle, as its lock has it.

    Attributes:
        bundle: Name of the bundle.
        repo: The lock's JSON object.
    """

    bundle: str
    repo: dict[str, Any]

    @property
    def files(self) -> set[str]:
        """Its files."""
        return {file["path"] for file in self.repo["files"]}

    @property
    def present(self) -> str:
        """What of it is there, for people: ``main (commit 0123456789ab)``."""
        return f"{self.repo['revision']} (commit {self.repo['commit'][:12]})"


def explain_missing(wanted: Wanted, home: str) -> tuple[str, str]:
    """Return what a library did not find in the cache, and what to do.

    Args:
        wanted: What it was looking for.
        home: HF_HOME.
    """
    entries = list(_find_repos(wanted, home))
    missing = f"{wanted} is not in {home}"
    if not entries:
        return missing, _say_what_to_have(wanted)
    entry = entries[-1]
    repo_id, there = entry.repo["repo_id"], f"bundle {entry.bundle} has the repo"
    if wanted.revision and not any(_has_revision(entry, wanted, home) for entry in entries):
        return (
            f"{wanted} at {wanted.revision} is not in {home}: {there} at {entry.present}",
            f"have `revision: {wanted.revision}` with `- repo_id: {repo_id}` {_AGAIN}; or load what is there",
        )
    if wanted.repo_type == "dataset":
        what = f", configuration {wanted.config}," if wanted.config else ""
        listed = ", ".join(entry.repo.get("configs") or [])
        return (
            f"{wanted}{what} is not in {home} as it was asked for: {there}"
            f"{f' with the configurations {listed}' if listed else ''}",
            f"name it under `configs`, or what is passed as data_files under `data_files`, of `- repo_id: {repo_id}` "
            f"{_AGAIN}",
        )
    if all(entry.repo["kind"] == "tokenizer" for entry in entries) and wanted.file not in entry.files:
        return f"{missing}: {there} under tokenizers, with what those need", _say_what_to_have(
            wanted._replace(repo_id=repo_id), "models"
        )
    if any(wanted.file in entry.files for entry in entries):
        return missing, f"{there} and this file: see what `bundle verify {entry.bundle}` says"
    return (
        f"{missing}: {there} without {'it' if wanted.file else 'what was asked for'}",
        f"the repo has no such file; or `allow_patterns` or `ignore_patterns` of `- repo_id: {repo_id}` leave it out: "
        f"change them {_AGAIN}",
    )


def explain_refused(wanted: Wanted, home: str) -> str:
    """Return what to do about a library that asked the network for something."""
    entries = list(_find_repos(wanted, home))
    if any(not wanted.file or wanted.file in entry.files for entry in entries):
        return (
            f"bundle {entries[-1].bundle} has {wanted}, and something asked the Hub all the same: pass "
            f"local_files_only=True there, or the folder that `bundle path {wanted.repo_id}` prints"
        )
    return explain_missing(wanted, home)[1]


def _say_what_to_have(wanted: Wanted, section: str = "") -> str:
    section = section or ("datasets" if wanted.repo_type == "dataset" else "models, or tokenizers,")
    return f"have `- repo_id: {wanted.repo_id}` under {section} {_AGAIN}"


def find_datasets(name: str, home: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the datasets of a name in the bundles of this launch: the bundle's name, and the lock's object."""
    for bundle, repo in _find_named(name, home):
        if repo["kind"] == "dataset":
            yield bundle, repo


def _find_repos(wanted: Wanted, home: str) -> Iterator[InstalledRepo]:
    """Yield the repos of that name and type, of the bundles of this launch."""
    for bundle, repo in _find_named(wanted.repo_id, home):
        if wanted.repo_type == ("dataset" if repo["kind"] == "dataset" else "model"):
            yield InstalledRepo(bundle, repo)


def _find_named(name: str, home: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the repos of a name, of any type, in the bundles of this launch; in all where it names none."""
    launched = [item.partition("=")[0] for item in os.environ.get("BUNDLE_VERIFIED", "").split()]
    folder = os.path.join(home, "bundles")  # noqa: PTH118
    for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:  # noqa: PTH112, PTH208
        bundle = file.removesuffix(".json")
        if bundle == file or (launched and bundle not in launched):
            continue
        try:
            with open(os.path.join(folder, file), encoding="utf-8") as stream:  # noqa: PTH118, PTH123
                repos = json.load(stream)["lock"]["repos"]
            for repo in repos:
                if name in (repo["repo_id"], *repo["aliases"]):
                    yield bundle, repo
        except (OSError, ValueError, KeyError, TypeError):
            continue  # A damaged receipt: `bundle verify` says so, and advice can do without.


def _has_revision(entry: InstalledRepo, wanted: Wanted, home: str) -> bool:
    if wanted.revision in (entry.repo["revision"], entry.repo["commit"]):
        return True
    folder = f"{wanted.repo_type}s--{wanted.repo_id.replace('/', '--')}"
    return os.path.exists(os.path.join(home, "hub", folder, "refs", wanted.revision))  # noqa: PTH110, PTH118
