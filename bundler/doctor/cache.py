"""Check the cache at HF_HOME: damaged bundles, files of interrupted work, known causes of failures in the libraries.

Only names and sizes are read; `bundle verify` reads the bytes. Repos that belong to no bundle are checked too, because
people's own downloads are in the same cache.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bundler.doctor.diagnosis import Diagnosis, note, ok, problem, warning
from bundler.errors import BundleError, UntrustedError
from bundler.files.leftovers import is_leftover
from bundler.home.common.journal import list_unfinished
from bundler.home.common.set_aside import SET_ASIDE_FOLDER
from bundler.home.home import Home
from bundler.plan.folders import CONTENT_FOLDERS
from bundler.text.wording import counted, name_some

_MOVED = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "HF_DATASETS_CACHE")


def check_place(environment: Mapping[str, str], hf_home: Path) -> Iterator[Diagnosis]:
    """Check where the cache is, and whether variables move parts of it elsewhere."""
    source = "HF_HOME" if environment.get("HF_HOME") else "the default"
    if not hf_home.exists():
        yield note("cache", f"{hf_home} ({source}) does not exist yet", "`bundle install` makes it")
    elif not hf_home.is_dir():
        yield problem("cache", f"{hf_home} ({source}) is not a folder", "set HF_HOME to a folder")
    elif not os.access(hf_home, os.W_OK | os.X_OK):
        yield note("cache", f"{hf_home} ({source}) is read-only for you; `bundle run` works with that")
    else:
        yield ok("cache", f"{hf_home} ({source})")
    for name in _MOVED:
        value = environment.get(name)
        if value and Path(value).expanduser().resolve().parent != hf_home.resolve():
            yield warning(
                "cache",
                f"{name}={value} moves a part of the cache out of HF_HOME, where bundles are installed",
                f"unset {name}; `bundle run` unsets it for the program that it starts",
            )


def check_bundles(hf_home: Path) -> Iterator[Diagnosis]:
    """Compare the names and sizes of every installed bundle with its lock."""
    damaged: list[BundleError] = []
    try:
        found = Home(hf_home).bundles(on_damage=damaged.append)
    except UntrustedError as distrust:
        # Of the home's own folders; what is in them says nothing then.
        yield problem("bundles", distrust.message, distrust.hint or "")
        return
    for error in damaged:
        yield problem("bundles", error.message, error.hint or "")
    for bundle in found:
        report = bundle.verify(quick=True)
        if report.ok:
            yield ok("bundles", f"{bundle.name}: {counted(report.files, 'file')}, names and sizes as in the lock")
        else:
            faults = name_some(map(str, report.faults), separator="; ")
            yield problem("bundles", f"{bundle.name}: {faults}", "run `bundle install` with the bundle file again")
    if not found and not damaged:
        yield note("bundles", "none is installed here", "bundle install FILE")


def check_traces(hf_home: Path) -> Iterator[Diagnosis]:
    """Look for files of interrupted work."""
    now = time.time()
    ours, partial = [], []
    for path in _walk(*(hf_home / name for name in (*CONTENT_FOLDERS, "bundles"))):
        if is_leftover(path, now=now):
            ours.append(path)
        elif path.name.endswith(".incomplete"):
            partial.append(path)
    removing = sorted((hf_home / "bundles").glob("*.removing"))
    if removing:
        name = removing[0].name.partition(".")[0]
        yield warning("traces", f"the removal of {name} was interrupted", f"bundle remove {name}")
    if ours:
        yield warning(
            "traces", f"an install was interrupted: {_name_some(ours, hf_home)}", "install again, which removes it"
        )
    if partial:
        advice = "remove them, unless a download is running: they are of no more use"
        yield note(
            "traces",
            f"downloads of the Hugging Face client were interrupted: {_name_some(partial, hf_home)}",
            advice,
        )
    unfinished = list_unfinished(hf_home)
    if unfinished:
        yield warning(
            "traces",
            f"an installation of {', '.join(unfinished)} did not finish, or is running",
            "install again to continue it, or free the space with `bundle remove`",
        )
    aside = [path for path in _walk(hf_home / SET_ASIDE_FOLDER) if not path.is_dir() or path.is_symlink()]
    if aside:
        yield note(
            "traces",
            f"files that no bundle ships were moved out of its snapshots: {_name_some(aside, hf_home)}",
            f"copy the files that you need to another place, and delete {SET_ASIDE_FOLDER}",
        )
    if not (ours or partial or removing or unfinished or aside):
        yield ok("traces", "none of interrupted work")


def check_repos(hf_home: Path) -> Iterator[Diagnosis]:
    """Look for known causes of failures in the libraries, in all repos of the cache."""
    folders = [path for path in sorted((hf_home / "hub").glob("*--*")) if path.is_dir() and not path.is_symlink()]
    refs = [ref for folder in folders for ref in _files(folder / "refs") if _is_padded(ref)]
    if refs:
        yield problem(
            "refs",
            f"white space around the commit: {_name_some(refs, hf_home)}. transformers ignores it, snapshot_download "
            "reads it as part of the commit",
            f"write it without: printf %s COMMIT > {refs[0]}",
        )
    dangling = [link for folder in folders for link in _links(folder / "snapshots") if not link.exists()]
    if dangling:
        advice = "fetch these repos again, or `bundle install` the bundle that has them"
        yield problem("snapshots", f"files without content: {_name_some(dangling, hf_home)}", advice)
    unfiltered = [tree for folder in folders for tree in _files(folder / "trees") if _lists_more(tree, folder)]
    if unfiltered:
        yield warning(
            "trees",
            f"the list of a commit names files that are not here: {_name_some(unfiltered, hf_home)}. Offline, chat "
            "templates are silently ignored, and snapshot_download fails",
            "fetch the rest of these repos, or remove the list",
        )
    if not (refs or dangling or unfiltered):
        yield ok("repos", f"{len(folders)} in the cache, none with a known fault")


def _is_padded(ref: Path) -> bool:
    try:
        content = ref.read_bytes()
    except OSError:
        return False
    return content != content.strip()


def _lists_more(tree: Path, folder: Path) -> bool:
    try:
        listed = json.loads(tree.read_bytes())["files"]
        snapshot = folder / "snapshots" / tree.stem
        # Without a snapshot nothing can be loaded from this commit.
        return snapshot.is_dir() and any(not os.path.lexists(snapshot / path) for path in listed)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _files(folder: Path) -> list[Path]:
    return [path for path in _walk(folder) if path.is_file()]


def _links(folder: Path) -> list[Path]:
    return [path for path in _walk(folder) if path.is_symlink()]


def _walk(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for parent, below, names in os.walk(folder):
            yield from (Path(parent, name) for name in sorted([*below, *names]))


def _name_some(paths: Iterable[Path], root: Path) -> str:
    return name_some(str(path.relative_to(root)) for path in paths)
