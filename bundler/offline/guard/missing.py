"""What the installed bundles lack of what a library wanted, and which line of the manifest would bring it.

The guard loads this as it loads `caller`, when there is something to say: the standard library only. Receipts are read
for advice, and not verified here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bundler.offline.guard.caller import Wanted

_AGAIN = "in the manifest, then fetch and install again"
# What the libraries ask for where a program names no revision.
_MAIN = "main"
# Kinds of entries that are types of repos, too; all others are in model repos.
_OWN_KINDS = ("dataset", "kernel", "space")


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
        commit = f"commit {self.repo['commit'][:12]}"
        return commit if self.repo["revision"] == self.repo["commit"] else f"{self.repo['revision']} ({commit})"


def explain_missing(wanted: Wanted, home: str) -> tuple[str, str]:
    """Return what a library did not find in the cache, and what to do.

    Args:
        wanted: What it was looking for.
        home: HF_HOME.
    """
    entries = list(_find_repos(wanted, home))
    if not entries:
        return _explain_unknown(wanted, home)
    fitting = [entry for entry in entries if _has_revision(entry, wanted, home)]
    if not fitting:
        return _explain_revision(wanted, entries, home)
    entry = fitting[-1]
    has, files = f"bundle {entry.bundle} has the repo", {file for each in fitting for file in each.files}
    again = f"`- repo_id: {entry.repo['repo_id']}` {_AGAIN}"
    if _is_question(wanted):
        return f"{wanted} is here, and {wanted.call} asks the Hub itself: {has}", _say_where_it_is(wanted)
    if wanted.place and (not wanted.file or wanted.file in files):
        return (
            f"{wanted} is not in {wanted.place}: {has}, in {home}",
            f"leave out {wanted.place.partition('=')[0]}; or {_say_where_it_is(wanted)}",
        )
    if wanted.call.startswith("datasets."):
        what = f", configuration {wanted.config}," if wanted.config else ""
        listed = ", ".join(entry.repo.get("configs") or [])
        return (
            f"{wanted}{what} is not in {home} as it was asked for: {has}"
            f"{f' with the configurations {listed}' if listed else ''}",
            f"name it under `configs`, `data_files` or `data_dirs` of {again}",
        )
    missing = f"{wanted} is not in {home}"
    if wanted.file in files:
        return missing, f"{has} and this file: see what `bundle verify {entry.bundle}` says"
    if any(wanted.file in each.repo.get("absent", ()) for each in fitting):
        return f"{missing}: commit {entry.repo['commit'][:12]} of the repo has no such file", _say_where_it_is(
            wanted
        )
    if all(each.repo["kind"] == "tokenizer" for each in fitting):
        wanted = wanted._replace(repo_id=entry.repo["repo_id"])
        return f"{missing}: {has} under tokenizers, with what those need", _say_what_to_have(wanted, "models")
    return (
        f"{missing}: {has} without {'it' if wanted.file else 'what was asked for'}",
        f"the repo has no such file; or `allow_patterns` or `ignore_patterns` leave it out: change them with {again}",
    )


def explain_refused(wanted: Wanted, home: str) -> str:
    """Return what to do about a library that asked the network for something."""
    fitting = [entry for entry in _find_repos(wanted, home) if _has_revision(entry, wanted, home)]
    if any(not wanted.file or wanted.file in entry.files for entry in fitting) and not _is_question(wanted):
        return (
            f"bundle {fitting[-1].bundle} has {wanted}, and something asked the Hub all the same: pass "
            f"local_files_only=True there, or the folder that `bundle path {wanted.repo_id}` prints"
        )
    return explain_missing(wanted, home)[1]


def _explain_unknown(wanted: Wanted, home: str) -> tuple[str, str]:
    """Explain a repo that no bundle of the launch has by that name and type."""
    missing = f"{wanted} is not in {home}"
    elsewhere = [entry for entry in _find_repos(wanted, home, every=True) if _has_revision(entry, wanted, home)]
    if elsewhere:
        bundle = elsewhere[-1].bundle
        return (
            f"{wanted} is not in the bundles of this launch: bundle {bundle}, which is installed too, has the repo",
            f"start it with `--bundle {bundle}` as well",
        )
    for bundle, repo in _find_named(wanted.repo_id, home):
        kind = _type_of(repo)
        if kind != wanted.repo_type:
            there = InstalledRepo(bundle, repo)
            if wanted.file and wanted.file not in there.files:
                return f"{missing}: bundle {bundle} has a {kind} of that name, without it", _say_what_to_have(
                    wanted
                )
            how = {"dataset": "load_dataset", "kernel": "get_kernel", "space": "evaluate.load"}.get(
                kind, "from_pretrained"
            )
            is_there = _has_revision(there, wanted._replace(repo_type=kind), home)
            more = "" if is_there else f' and revision="{repo["revision"]}"'
            return (
                f"{missing}: bundle {bundle} has a {kind} of that name",
                f'pass repo_type="{kind}"{more} to huggingface_hub, or use {how}; or {_say_what_to_have(wanted)}',
            )
    return missing, _say_what_to_have(wanted)


def _explain_revision(wanted: Wanted, entries: list[InstalledRepo], home: str) -> tuple[str, str]:
    """Explain a repo that is there at other revisions than the one asked for."""
    revision, repo_id = wanted.revision or _MAIN, entries[-1].repo["repo_id"]
    there = " and ".join(dict.fromkeys(entry.present for entry in entries))
    return (
        f"{wanted} at {revision} is not in {home}: bundle {entries[-1].bundle} has the repo at {there}",
        f"have `revision: {revision}` with `- repo_id: {repo_id}` {_AGAIN}; or pass "
        f'revision="{entries[-1].repo["revision"]}" for what is there',
    )


def _is_question(wanted: Wanted) -> bool:
    """Tell whether what was called asks the Hub about a repo, and looks into no cache."""
    library, _, function = wanted.call.partition(".")
    return library == "huggingface_hub" and not wanted.file and not function.endswith("snapshot_download")


def _say_where_it_is(wanted: Wanted) -> str:
    of_type = {"model": "", "dataset": " --dataset"}.get(wanted.repo_type, f" --type {wanted.repo_type}")
    return f"look at the files in the folder that `bundle path {wanted.repo_id}{of_type}` prints"


def _say_what_to_have(wanted: Wanted, section: str = "") -> str:
    if wanted.repo_type not in ("model", *_OWN_KINDS):
        return f"no bundle holds a repo of type {wanted.repo_type}: take its files along in another way"
    section = section or ("models, or tokenizers," if wanted.repo_type == "model" else f"{wanted.repo_type}s")
    line = f"repo_id: {wanted.repo_id}"
    if wanted.repo_type == "kernel" and wanted.revision:
        # A version of a kernel is a branch, and code names it.
        line = f"{{{line}, revision: {wanted.revision}}}"
    return f"have `- {line}` under {section} {_AGAIN}"


def finder_of(kind: str, home: str) -> Callable[[str], Iterator[tuple[str, dict[str, Any]]]]:
    """Return a function that yields the entries of a name, and of this kind, in the bundles of this launch.

    Each is a pair: the bundle's name, and the lock's object.
    """

    def find(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for bundle, repo in _find_named(name, home):
            if repo["kind"] == kind:
                yield bundle, repo

    return find


def find_file(url: str, home: str) -> str | None:
    """Return where a bundle of this launch has the file of an address; None if none has."""
    hub = os.environ.get("BUNDLE_HUB_CACHE") or os.path.join(home, "hub")  # noqa: PTH118
    for _, repo in _find_locked(home):
        origin = repo.get("origin")
        if origin and origin["url"] == url and not origin["unpacked"]:
            folder = os.path.join(os.path.dirname(hub), "files", repo["repo_id"].replace("/", "--"))  # noqa: PTH118, PTH120
            place = os.path.join(folder, "snapshots", repo["commit"], repo["files"][0]["path"])  # noqa: PTH118
            if os.path.isfile(place):  # noqa: PTH113
                return place
    return None


def _find_repos(wanted: Wanted, home: str, *, every: bool = False) -> Iterator[InstalledRepo]:
    """Yield the repos of that name and type, of the bundles of this launch or of `every` one."""
    for bundle, repo in _find_named(wanted.repo_id, home, every=every):
        if wanted.repo_type == _type_of(repo):
            yield InstalledRepo(bundle, repo)


def _type_of(repo: dict[str, Any]) -> str:
    return str(repo["kind"]) if repo["kind"] in _OWN_KINDS else "model"


def _find_named(name: str, home: str, *, every: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the repos of a name, of any type, in the bundles of this launch; in all where it names none."""
    for bundle, repo in _find_locked(home, every=every):
        if name in (repo["repo_id"], *repo["aliases"]):
            yield bundle, repo


def _find_locked(home: str, *, every: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all repos in the bundles of this launch, or in all that are installed."""
    verified = "" if every else os.environ.get("BUNDLE_VERIFIED", "")
    launched = [item.partition("=")[0] for item in verified.split()]
    folder = os.path.join(home, "bundles")  # noqa: PTH118
    for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:  # noqa: PTH112, PTH208
        bundle = file.removesuffix(".json")
        if bundle == file or (launched and bundle not in launched):
            continue
        try:
            with open(os.path.join(folder, file), encoding="utf-8") as stream:  # noqa: PTH118, PTH123
                repos = json.load(stream)["lock"]["repos"]
            yield from ((bundle, repo) for repo in repos if isinstance(repo["aliases"], list) and repo["repo_id"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # A damaged receipt: `bundle verify` says so, and advice can do without.


def _has_revision(entry: InstalledRepo, wanted: Wanted, home: str) -> bool:
    revision = wanted.revision
    if not revision:
        # `load_dataset` takes what was prepared, and looks at no ref.
        if wanted.call.startswith("datasets."):
            return True
        revision = _MAIN
    if revision in (entry.repo["revision"], entry.repo["commit"], *entry.repo.get("refs", ())):
        return True
    hub = os.environ.get("BUNDLE_HUB_CACHE") or os.path.join(home, "hub")  # noqa: PTH118
    folder = f"{wanted.repo_type}s--{wanted.repo_id.replace('/', '--')}"
    return os.path.exists(os.path.join(hub, folder, "refs", revision))  # noqa: PTH110, PTH118
