"""Choose the files of a kernel's repo, and find the other kernels that it is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from bundler.hub.selection.variants import BUILD_FOLDER, Variant, choose_variants, list_variants
from bundler.plan.manifest import Entry
from bundler.plan.names import is_repo_id, is_revision
from bundler.text.wording import name_some

METADATA = "metadata.json"


def kernel_files(entry: Entry, paths: Sequence[str], problems: list[str], warnings: list[str]) -> set[str]:
    """Return the files of the variants that an entry wants.

    Faults that prevent loading are added to `problems`, machines that get nothing to `warnings`.
    """
    variants = list_variants(paths)
    if not variants:
        problems.append(
            f"{entry.label}: no build for the kernels library: expected folders such as "
            f"{BUILD_FOLDER}/torch-universal, found none; versions of a kernel are branches: revision: v1"
        )
        return set()
    chosen, unserved = choose_variants(
        variants, torch=entry.torch, backends=entry.backends, platforms=entry.platforms
    )
    if not chosen:
        wanted = "; ".join(
            f"{key}: {', '.join(values)}"
            for key in ("torch", "backends", "platforms")
            if (values := getattr(entry, key))
        )
        problems.append(f"{entry.label}: no build for {wanted}; there is {_name(variants)}")
        return set()
    warnings.extend(f"{entry.label}: no build for {machine}; there is {_name(variants)}" for machine in unserved)
    folders = tuple(f"{BUILD_FOLDER}/{variant.name}/" for variant in chosen)
    # The library leaves out compiled Python, too: whoever has it there made a mistake.
    return {
        path
        for path in paths
        if path.startswith(folders) and not path.endswith(".pyc") and "/__pycache__/" not in path
    }


def list_metadata(paths: Iterable[str]) -> list[str]:
    """Return the files that say what other kernels the chosen builds need."""
    return [
        path
        for path in paths
        if path.startswith(f"{BUILD_FOLDER}/") and path.count("/") == 2 and path.endswith(f"/{METADATA}")
    ]


def needed_kernels(metadata: Iterable[bytes]) -> list[tuple[str, str]]:
    """Return repo and revision of each kernel that some builds name; what cannot be read names none."""
    found = set()
    for content in metadata:
        try:
            listed = json.loads(content)["kernel-depends"]
            pairs = [(one["repo-id"], one.get("revision") or f"v{one['version']}") for one in listed]
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
        found |= {
            (name, revision)
            for name, revision in pairs
            if isinstance(name, str) and isinstance(revision, str) and is_repo_id(name) and is_revision(revision)
        }
    return sorted(found)


def needed_kernel_warnings(entry: Entry, needed: Iterable[tuple[str, str]], entries: Iterable[Entry]) -> list[str]:
    """Return a warning for each kernel that an entry needs, and that no entry brings."""
    there = {
        (name, one.revision) for one in entries if one.kind == "kernel" for name in (one.repo_id, *one.aliases)
    }
    return [
        f"{entry.label}: is made of another kernel, {name} at {revision}, which no entry brings; add to kernels: "
        f"- {{repo_id: {name}, revision: {revision}}}"
        for name, revision in needed
        if (name, revision) not in there
    ]


def _name(variants: Iterable[Variant]) -> str:
    return name_some([variant.name for variant in variants], shown=8)
