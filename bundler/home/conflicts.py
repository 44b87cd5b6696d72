"""What two bundles in one HF_HOME cannot both have: a name that has to be two things.

Content lives under its hash and a snapshot under its commit, so that bundles share those. A ref, the link of another
name, and a prepared dataset file are one per HF_HOME. Whoever came first keeps them: an installation that needs one
of them to be something else is refused before it writes, or the bundle that is there would stop to verify.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from bundler.errors import ConflictError
from bundler.plan.layout import Layout
from bundler.text.wording import and_more


@dataclass(frozen=True)
class Pin:
    """A name below HF_HOME that a bundle needs to be one thing.

    Attributes:
        what: What it is called in messages: ``ref main of org/m``.
        value: What it must be: a commit, the target of a link, a digest.
    """

    what: str
    value: str


def pins(content: Layout) -> dict[str, Pin]:
    """Return path -> pin of all that `content` cannot share with a bundle that needs it otherwise."""
    found: dict[str, Pin] = {}
    for repo in content.repos:
        found[repo.folder] = Pin(f"folder of {repo.repo_id}", posixpath.basename(repo.folder))
        for repo_id, folder in zip((repo.repo_id, *repo.aliases), repo.hub_folders, strict=True):
            for name, commit in repo.refs.items():
                found[f"{folder}/refs/{name}"] = Pin(f"ref {name} of {repo_id}", commit)
        for path, target in repo.alias_links():
            found[path] = Pin(f"other name {posixpath.basename(path)}", target)
        for blob in repo.prepared:
            found[blob.path] = Pin(f"prepared file of {repo.repo_id}", f"sha256:{blob.sha256}")
    return found


def check_conflicts(name: str, content: Layout, others: Mapping[str, Layout]) -> None:
    """Refuse to install `content` as bundle `name` beside `others`, which are installed, if it would break one.

    Raises:
        ConflictError: Names every bundle, name and both values.
    """
    wanted = pins(content)
    lines: dict[str, None] = {}
    rivals = []
    for other, layout in others.items():
        held = pins(layout)
        clashing = [path for path in wanted if path in held and held[path].value != wanted[path].value]
        if not clashing:
            continue
        rivals.append(other)
        for path in clashing:
            lines[
                f"{wanted[path].what}: {name} needs {wanted[path].value}, "
                f"installed bundle {other} has {held[path].value} ({path})"
            ] = None
    if rivals:
        listing = "\n  ".join(and_more([*lines]))
        removal = " and ".join(f"`bundle remove {other}`" for other in rivals)
        raise ConflictError(
            f"bundle {name} cannot stand beside {', '.join(rivals)} in one HF_HOME; nothing was installed:\n"
            f"  {listing}",
            hint=f"install {name} into another cache with --hf-home; or {removal} first; or lock both manifests "
            "at the same commit (`bundle lock`, `revision:`) and fetch again",
        )
