"""Let `load_dataset` of an offline launch answer what it would online, or not at all.

Without a network the library takes what it finds prepared under a name, whatever else was asked for: it does not look
at `revision`, takes the one configuration that is there for the default, and knows no default where there are several.
So a call about a dataset of a bundle is looked at first:

* a revision that the bundle does not have is an error;
* lists of configurations are read off the files in the bundle;
* a call that names no configuration gets the one that the dataset's card calls the default;
* what was not prepared when the bundle was fetched is prepared now, from the files in the bundle, as the library does
  it online; a line on stderr says so. If the entry left out files of the repo, it is an error: it might be other data.

The guard loads this when `datasets` is imported, as it loads `caller`: the standard library only, and the library's own
module, which is at hand then. Receipts are read for the names in them; content was verified before the launch.
"""

from __future__ import annotations

import functools
import glob
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

Fault = tuple[str, str]


class _Answer(NamedTuple):
    """A repo in a bundle that answers a call."""

    bundle: str
    repo: dict[str, Any]
    snapshot: str


def answer_from_bundles(
    module: ModuleType, find_repos: Callable[[str], Iterator[tuple[str, dict[str, Any]]]], hub: str, refuse: Any
) -> None:
    """Put a look at each call before the function of a module that all others of it call.

    Args:
        module: `datasets.load`, or `datasets.inspect`, which lists configurations.
        find_repos: Returns the datasets of a name in the bundles of this launch: the bundle, and the lock's object.
        hub: The folder in which repos are read.
        refuse: Makes an error from what is wrong, and the remedy.
    """
    name, settle = {
        "datasets.load": ("load_dataset_builder", _settle),
        "datasets.inspect": ("dataset_module_factory", _settle_listing),
    }[module.__name__]
    original = getattr(module, name)
    signature = inspect.signature(original)

    @functools.wraps(original)
    def look_first(*arguments: Any, **options: Any) -> Any:
        call = signature.bind(*arguments, **options)
        path = call.arguments.get("path")
        if isinstance(path, str) and not os.path.exists(path):  # noqa: PTH110
            answers = [
                _Answer(bundle, repo, _find_snapshot(hub, path, repo["commit"]))
                for bundle, repo in find_repos(path)
            ]
            if answers and (fault := settle(module, call.arguments, answers)):
                raise refuse(*fault)
        return original(*call.args, **call.kwargs)

    setattr(module, name, look_first)


def _find_snapshot(hub: str, path: str, commit: str) -> str:
    return os.path.join(hub, f"datasets--{path.replace('/', '--')}", "snapshots", commit)  # noqa: PTH118


def _settle(module: ModuleType, arguments: dict[str, Any], answers: list[_Answer]) -> Fault | None:
    """Change the arguments of a call so that the library answers it as it does online; return why it can't be."""
    fitting = _find_fitting(arguments, answers)
    if not fitting and (arguments.get("revision") or len({a.repo["commit"] for a in answers}) > 1):
        return _other_revision(arguments, answers)
    answer = (fitting or answers)[-1]
    if not fitting:
        sys.stderr.write(
            f"offline: {_describe(arguments)} names no revision, and gets the only one that is there: "
            f"{answer.repo['revision']} of bundle {answer.bundle}\n"
        )
    is_only = len({other.repo["commit"] for other in answers}) == 1
    if is_only and not arguments.get("cache_dir") and _is_prepared(module, arguments, answers, answer.snapshot):
        return None
    call = _describe(arguments)
    repo_id = answer.repo["repo_id"]
    if not os.path.isdir(answer.snapshot):  # noqa: PTH112
        return None
    if answer.repo.get("partial"):
        return (
            f"offline: {call} was not prepared when bundle {answer.bundle} was fetched, and the bundle has a part of "
            "the files only, so that it could be other data than online",
            f"{_name_it(repo_id)} in the manifest, then fetch and install again",
        )
    arguments["path"] = answer.snapshot
    sys.stderr.write(
        f"offline: {call} is prepared now, from the files in bundle {answer.bundle}; to have it prepared and proven "
        f"when the bundle is fetched, {_name_it(repo_id)}\n"
    )
    return None


def _name_it(repo_id: str) -> str:
    return f"name it under `configs`, `data_dirs` or `data_files` of `- repo_id: {repo_id}`"


def _settle_listing(module: ModuleType, arguments: dict[str, Any], answers: list[_Answer]) -> Fault | None:
    """Have the card and the files of the bundle read, where the library would list what it finds prepared."""
    fitting = _find_fitting(arguments, answers)
    if not fitting and arguments.get("revision"):
        return _other_revision(arguments, answers)
    snapshot = (fitting or answers)[-1].snapshot
    arguments["path"] = snapshot if os.path.isdir(snapshot) else arguments["path"]  # noqa: PTH112
    return None


def _find_fitting(arguments: dict[str, Any], answers: list[_Answer]) -> list[_Answer]:
    asked = str(arguments.get("revision") or "main")
    return [a for a in answers if asked in (a.repo["revision"], a.repo["commit"], *a.repo.get("refs", ()))]


def _other_revision(arguments: dict[str, Any], answers: list[_Answer]) -> Fault:
    path, asked = arguments["path"], str(arguments.get("revision") or "main")
    there = " and ".join(f"{a.repo['revision']} (commit {a.repo['commit'][:12]})" for a in answers)
    first = answers[-1]
    return (
        f"offline: dataset {path} at {asked} was asked for: bundle {first.bundle} has it at {there}",
        f"ask for what is there, or have `revision: {asked}` with `- repo_id: {first.repo['repo_id']}` in the "
        "manifest, then fetch and install again",
    )


def _is_prepared(module: ModuleType, arguments: dict[str, Any], answers: list[_Answer], snapshot: str) -> bool:
    """Tell whether the library will find what is asked for, and name the default configuration where it must be."""
    chosen = {key: arguments[key] for key in ("data_dir", "data_files") if arguments.get(key) is not None}
    chosen |= arguments.get("config_kwargs", {})
    name, features = arguments.get("name"), arguments.get("features")
    if chosen or features is not None:
        wanted = module.BuilderConfig(name or "default").create_config_id(
            config_kwargs=chosen, custom_features=features
        )
        return wanted in _list_prepared(answers)
    default = name or find_default(module, snapshot)
    if default is None or default not in (prepared := _list_prepared(answers)):
        return False
    if len(prepared) > 1:
        arguments["name"] = default
    return True


def _list_prepared(answers: list[_Answer]) -> set[str]:
    """Return the names of prepared folders: configurations, and what the library calls a choice of files."""
    return {file["path"].partition("/")[0] for answer in answers for file in answer.repo.get("prepared", ())}


def find_default(module: ModuleType, snapshot: str) -> str | None:
    """Return the configuration that a call without a name means online; None if there is none, or it is unknown.

    Args:
        module: `datasets.load`.
        snapshot: The folder of the dataset's commit.
    """
    card = os.path.join(snapshot, "README.md")  # noqa: PTH118
    if not os.path.exists(card):  # noqa: PTH110
        return "default" if glob.glob(os.path.join(glob.escape(snapshot), "*")) else None  # noqa: PTH118, PTH207
    try:
        configs = module.MetadataConfigs.from_dataset_card_data(module.DatasetCard.load(card).data)
        return configs.get_default_config_name() if configs else "default"
    except Exception:
        # A card that the library cannot read: it says so itself, where it reads the card.
        return None


def _describe(arguments: dict[str, Any]) -> str:
    shown = [repr(arguments["path"])]
    for key in ("name", "data_dir", "data_files", "revision"):
        if arguments.get(key) is not None:
            shown.append(repr(arguments[key]) if key == "name" else f"{key}={arguments[key]!r}")
    shown += [f"{key}=…" for key in ("features", *arguments.get("config_kwargs", {})) if arguments.get(key)]
    return f"load_dataset({', '.join(shown)})"
