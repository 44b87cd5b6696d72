"""What two bundles in one HF_HOME cannot both have: a name that has to be two things.

Content lives under its hash and a snapshot under its commit, so that bundles share those; two bundles that say
different things of one path of one commit cannot both be right, and the second is refused before it writes. A ref, the
link of another name, and a prepared dataset file are one in the shared view. Whoever came first keeps them there: the
second has them in its own view, where `bundle run --bundle` and the trainer read. Without such views, on a file system
without symlinks, it is refused.

A ref that no entry asked for (`LockedRepo.refs`) yields: to the ref of an entry that did, whoever came first, and in a
view of several bundles also to another of its kind, since neither is meant more than the other.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bundler.errors import ConflictError
from bundler.plan.layout import Layout, RepoLayout
from bundler.text.wording import and_more


@dataclass(frozen=True)
class Pin:
    """A name below HF_HOME that a bundle needs to be one thing.

    Attributes:
        what: What it is called in messages: ``ref main of org/m``.
        value: What it must be: a commit, the target of a link, a digest.
        yields: Whether the bundle can do without it where another needs it otherwise.
    """

    what: str
    value: str
    yields: bool = False


def pins(content: Layout) -> dict[str, Pin]:
    """Return path -> pin of all that `content` cannot share with a bundle that needs it otherwise."""
    found: dict[str, Pin] = {}
    for repo in content.repos:
        found[repo.folder] = Pin(f"folder of {repo.repo_id}", posixpath.basename(repo.folder))
        for repo_id, folder in zip((repo.repo_id, *repo.aliases), repo.hub_folders, strict=True):
            for name, commit in repo.refs.items():
                found[f"{folder}/refs/{name}"] = Pin(
                    f"ref {name} of {repo_id}", commit, name in repo.yielding_refs
                )
        for path, target in repo.alias_links():
            found[path] = Pin(f"other name {posixpath.basename(path)}", target)
        for blob in repo.prepared:
            found[blob.path] = Pin(f"prepared file of {repo.repo_id}", f"sha256:{blob.sha256}")
    return found


def settle_refs(content: Layout, others: Sequence[Layout]) -> Layout:
    """Return `content` less its refs that yield, where one of `others` needs them to be something else."""
    needed: dict[str, set[str]] = {}
    for other in others:
        for repo in other.repos:
            for text in repo.ref_texts():
                needed.setdefault(text.path, set()).add(text.content.decode())

    def keep(repo: RepoLayout) -> RepoLayout:
        given_up = {
            name
            for name in repo.yielding_refs
            if needed.get(f"{repo.folder}/refs/{name}", set()) - {repo.refs[name]}
        }
        return replace(repo, refs={name: commit for name, commit in repo.refs.items() if name not in given_up})

    return replace(content, repos=tuple(keep(repo) if repo.yielding_refs else repo for repo in content.repos))


def _find_contradictions(mine: Layout, theirs: Layout) -> Iterator[tuple[str, str, str]]:
    """Yield (file of a commit, what `mine` says of it, what `theirs` says) where these differ."""
    there = {repo.folder: repo for repo in theirs.repos}
    for repo in mine.repos:
        if repo.folder not in there:
            continue
        ours, other = _describe_commits(repo), _describe_commits(there[repo.folder])
        for path in sorted(set(ours) & set(other)):
            if ours[path] != other[path]:
                commit, _, name = path.partition("/")
                yield f"{name} of {repo.repo_id} at {commit[:12]}", ours[path], other[path]


def _describe_commits(repo: RepoLayout) -> dict[str, str]:
    """Return commit/path -> the name of its content, or that the commit has no such file."""
    said = {f"{commit}/{file.path}": file.etag for commit, files in repo.trees.items() for file in files}
    start = len(f"{repo.folder}/.no_exist/")
    return said | {marker.path[start:]: "that there is no such file" for marker in repo.markers}


@dataclass(frozen=True)
class Held:
    """A name in the shared view that stays what another bundle needs it to be.

    Attributes:
        path: Where, relative to HF_HOME.
        what: What it is called in messages.
        wanted: What the bundle that is installed needs.
        bundle: Who has it.
        value: What it is.
    """

    path: str
    what: str
    wanted: str
    bundle: str
    value: str


def find_held(content: Layout, current: Mapping[str, Layout]) -> list[Held]:
    """Return the names that `content` needs, and that the shared view shows otherwise for one of `current`."""
    wanted = pins(content)
    return [
        Held(path, wanted[path].what, wanted[path].value, other, pin.value)
        for other, layout in current.items()
        for path, pin in pins(layout).items()
        if path in wanted and wanted[path].value != pin.value and (wanted[path].yields or not pin.yields)
    ]


def check_conflicts(
    name: str,
    content: Layout,
    *,
    current: Mapping[str, Layout],
    kept: Mapping[str, Layout],
    has_views: Callable[[], bool],
) -> list[Held]:
    """Refuse to install `content` as bundle `name` if it would break what is installed.

    Args:
        name: The bundle's name.
        content: What it needs.
        current: What the shared view shows of other bundles, by name.
        kept: What must stay, by a label each.
        has_views: Tells whether bundles have views of their own here; asked only if it matters.

    Returns:
        The names that stay with others in the shared view.

    Raises:
        ConflictError: Names every bundle, name and both values.
    """
    held = find_held(content, current)
    folders = {repo.folder for repo in content.repos}
    folders |= {repo.folder for layout in current.values() for repo in layout.repos}
    # A folder with content cannot be a link at the same time, whatever views there are.
    fatal = [one for one in held if one.path in folders]
    if len(fatal) < len(held) and not has_views():
        mine = pins(content)
        fatal = [one for one in held if not mine[one.path].yields]
    lines: dict[str, str] = {}
    for one in fatal:
        has = f"installed bundle {one.bundle} has {one.value} ({one.path})"
        lines[f"{one.what}: {name} needs {one.wanted}, {has}"] = one.bundle
    for other, layout in kept.items():
        for what, needed, found in _find_contradictions(content, layout):
            lines[f"{what}: {name} says {needed}, installed bundle {other} says {found}"] = other
    if lines:
        rivals = [*dict.fromkeys(lines.values())]
        listing = "\n  ".join(and_more([*lines]))
        removal = " and ".join(f"`bundle remove {other}`" for other in rivals)
        raise ConflictError(
            f"bundle {name} cannot stand beside {', '.join(rivals)} in one HF_HOME; nothing was installed:\n"
            f"  {listing}",
            hint=f"install {name} into another cache with --hf-home; or {removal} first; or lock both manifests "
            "at the same commit (`bundle lock`, `revision:`) and fetch again",
        )
    return held
