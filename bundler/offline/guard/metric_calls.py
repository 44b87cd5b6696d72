"""Let `evaluate.load` of an offline launch take the spaces of the bundles, as it takes those of the Hub online.

The library downloads the script of a metric, and the files that it imports, from addresses of the Hub, and copies them
to the modules cache; it does not look into the Hub's cache. Without a network it takes the newest copy that is in the
modules cache, whatever revision was asked for. So here its download is answered from the bundle:

* a file of a space that the bundle has at the revision asked for;
* a file of another host that a script imports (``# From: URL``) and that a bundle has by this address;
* the library first asks for a tag of its own version, and takes `main` where there is none. So it is told that there is
  none, unless the bundle has that tag;
* a program that names no revision gets the only one that is there, and a line on stderr says so; a revision that the
  bundle does not have is an error, and no older copy is taken in its place.

The guard loads this when `evaluate` is imported, as it loads `caller`: the standard library only, and the library's own
module, which is at hand then. The files were verified before the launch.

Source: evaluate 0.4.6, `evaluate.loading`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

_MAIN = "main"

Found = Callable[[str], Iterator[tuple[str, dict[str, Any]]]]


class _File(NamedTuple):
    """A file of a space, as an address of the Hub names it."""

    repo_id: str
    revision: str
    path: str


def answer_from_bundles(
    module: ModuleType, find_spaces: Found, hub: str, refuse: Any, find_file: Callable[[str], str | None]
) -> None:
    """Put a look into the bundles before the library's downloads, and before its own cache.

    Args:
        module: `evaluate.loading`.
        find_spaces: Returns the spaces of a name in the bundles of this launch: the bundle, and the lock's object.
        hub: The folder in which repos are read.
        refuse: Makes an error from what is wrong, and the remedy.
        find_file: Returns where a bundle has the file of an address; None if none has.
    """
    download = module.cached_path
    get_cached = module.CachedEvaluationModuleFactory.get_module
    own_version = f"v{module.SCRIPTS_VERSION}"
    said: set[str] = set()

    @functools.wraps(download)
    def cached_path(url: Any, *arguments: Any, **options: Any) -> Any:
        file = _parse(module, url)
        if file is None and isinstance(url, str) and (place := find_file(url)):
            return place
        answers = list(find_spaces(file.repo_id)) if file else []
        if file is None or not answers:
            return download(url, *arguments, **options)
        return _answer(file, answers, hub, own_version, said, refuse)

    @functools.wraps(get_cached)
    def get_module(factory: Any) -> Any:
        repo_id = factory.name.replace("--", "/")
        if any(True for _ in find_spaces(repo_id)):
            raise FileNotFoundError(
                f"offline: space {repo_id} is taken from its bundle, and not from an older copy"
            )
        return get_cached(factory)

    module.cached_path = cached_path  # type: ignore[attr-defined]
    module.CachedEvaluationModuleFactory.get_module = get_module


def _parse(module: ModuleType, url: Any) -> _File | None:
    """Return the file of a space that an address is of; None for another address."""
    start = f"{module.config.HF_ENDPOINT}/spaces/"
    if not isinstance(url, str) or not url.startswith(start):
        return None
    repo_id, is_file, rest = url[len(start) :].partition("/resolve/")
    revision, _, path = rest.partition("/")
    return _File(repo_id, revision, path) if is_file and path else None


def _answer(
    file: _File,
    answers: list[tuple[str, dict[str, Any]]],
    hub: str,
    own_version: str,
    said: set[str],
    refuse: Any,
) -> str:
    fitting = [
        (bundle, repo)
        for bundle, repo in answers
        if file.revision in (repo["revision"], repo["commit"], *repo.get("refs", ()))
    ]
    bundle, repo = (fitting or answers)[-1]
    if not fitting:
        if file.revision == own_version:
            raise FileNotFoundError(f"Couldn't find file at {file.revision}/{file.path}")
        if file.revision != _MAIN or len({other["commit"] for _, other in answers}) > 1:
            there = " and ".join(f"{one['revision']} (commit {one['commit'][:12]})" for _, one in answers)
            raise refuse(
                f"offline: space {file.repo_id} at {file.revision} was asked for: bundle {bundle} has it at {there}",
                f"ask for what is there, or have `revision: {file.revision}` with `- repo_id: {repo['repo_id']}` in "
                "the manifest, then fetch and install again",
            )
        if file.repo_id not in said:
            said.add(file.repo_id)
            sys.stderr.write(
                f"offline: evaluate.load({file.repo_id!r}) names no revision, and gets the only one that is there: "
                f"{repo['revision']} of bundle {bundle}\n"
            )
    place = os.path.join(hub, f"spaces--{file.repo_id.replace('/', '--')}", "snapshots", repo["commit"], file.path)  # noqa: PTH118
    if not os.path.isfile(place):  # noqa: PTH113
        raise FileNotFoundError(f"offline: space {file.repo_id} of bundle {bundle} has no file {file.path}")
    return place
