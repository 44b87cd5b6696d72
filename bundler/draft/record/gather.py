"""Put together what belongs to one repo at one revision, whatever names and revisions it was read by.

Rule book:

* the Hub says which repo a name means today; names that differ from it become aliases;
* libraries ask for a branch once and for its commit afterwards: files of a commit that a branch led to belong to the
  branch. A commit that no branch led to was asked for as such;
* a branch from a list of all (kernels are found so) counts where nothing else led to the commit;
* a branch that moved while the program ran means the commit that it led to last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bundler.draft.record.notes import DatasetUse, FileUse, Notes
from bundler.errors import HubError
from bundler.plan.names import DEFAULT_REVISION, HUB_TYPES, RepoType, is_commit, is_revision

if TYPE_CHECKING:
    from bundler.hub.connection.client import HubClient

# A manifest has entries for repos of these types.
_TYPES = HUB_TYPES


@dataclass(kw_only=True)
class RepoUse:
    """What was read of a repo at a revision.

    Attributes:
        repo_type: Its type on the Hub.
        repo_id: Its present name.
        revision: Branch or tag that was asked for, or a commit.
        commit: The commit that was read.
        aliases: Other names that it was asked for by.
        files: Paths that were read; empty if only its name was seen.
        trusted: Whether Python was run for it, of its own or of another repo.
        datasets: How it was asked for as a dataset.
    """

    repo_type: RepoType
    repo_id: str
    revision: str
    commit: str
    aliases: tuple[str, ...] = ()
    files: frozenset[str] = frozenset()
    trusted: bool = False
    datasets: list[DatasetUse] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """All repos that were read.

    Attributes:
        repos: Those that a manifest can name.
        unlisted: Repos of other types, as ``space evaluate-metric/accuracy``, in order.
        unknown: Names that the Hub does not know, with what it said.
    """

    repos: tuple[RepoUse, ...]
    unlisted: tuple[str, ...]
    unknown: tuple[str, ...]


def gather(notes: Notes, client: HubClient) -> Gathered:
    """Sort the notes by repo and revision.

    Raises:
        NetworkError: The Hub cannot be reached.
    """
    unlisted = sorted({f"{use.repo_type} {use.repo_id}" for use in notes.files if use.repo_type not in _TYPES})
    by_name: dict[tuple[RepoType, str], list[FileUse]] = {}
    for use in notes.files:
        if use.repo_type in _TYPES:
            by_name.setdefault((use.repo_type, use.repo_id), []).append(use)
    present: dict[tuple[RepoType, str], str] = {}
    unknown = []
    for (repo_type, name), uses in by_name.items():
        try:
            present[repo_type, name] = client.revision(name, repo_type, _known_revision(uses)).repo_id
        except HubError as error:
            unknown.append(f"{repo_type} {name}: {error.message}")
    repos: list[RepoUse] = []
    for repo_type, repo_id in dict.fromkeys((key[0], repo_id) for key, repo_id in present.items()):
        names = [name for (other, name), now in present.items() if (other, now) == (repo_type, repo_id)]
        uses = [use for name in names for use in by_name[repo_type, name]]
        asked = [use for use in notes.datasets if repo_type == "dataset" and use.repo_id in names]
        aliases = tuple(sorted({*names, *(use.asked for use in asked)} - {repo_id}))
        of_repo = _split_by_revision(repo_type, repo_id, aliases, uses, asked, client)
        for one in of_repo:
            one.trusted = repo_type == "model" and not notes.trusted.isdisjoint(names)
        repos += of_repo
    return Gathered(repos=tuple(repos), unlisted=tuple(unlisted), unknown=tuple(unknown))


def _known_revision(uses: Iterable[FileUse]) -> str:
    """Return the revision to ask for: a commit, which does not move; else what the program asked for."""
    return next((use.commit for use in uses if use.commit), "") or next(
        (use.revision for use in uses if is_revision(use.revision)), "main"
    )


def _split_by_revision(
    repo_type: RepoType,
    repo_id: str,
    aliases: tuple[str, ...],
    uses: list[FileUse],
    asked: list[DatasetUse],
    client: HubClient,
) -> list[RepoUse]:
    named = [use for use in uses if use.commit and _is_branch(use.revision)]
    led_to = {use.revision: use.commit for use in named if not use.listed}
    led_to |= _choose_listed(use for use in named if use.listed and use.commit not in led_to.values())
    files: dict[str, set[str]] = {}
    for use in uses:
        commit = use.commit or led_to.get(use.revision, "")
        if not commit:
            # The name was seen, and nobody said where it led to.
            revision = use.revision if is_revision(use.revision) else "main"
            commit = client.revision(repo_id, repo_type, revision).commit
            if _is_branch(revision):
                led_to[revision] = commit
        files.setdefault(commit, set()).update({use.path} - {""})
    found = []
    for commit, paths in files.items():
        for revision in [name for name, end in led_to.items() if end == commit] or [commit]:
            asked_here = [use for use in asked if use.revision == revision or use.commit == commit]
            if not paths and not asked_here:
                continue  # only asked about
            found.append(
                RepoUse(
                    repo_type=repo_type,
                    repo_id=repo_id,
                    revision=revision,
                    commit=commit,
                    aliases=aliases,
                    files=frozenset(paths),
                    datasets=asked_here,
                )
            )
    return found


def _choose_listed(uses: Iterable[FileUse]) -> dict[str, str]:
    """Return the branches that a program may have chosen from a list: any other before `main`, which needs no list."""
    listed = {use.revision: use.commit for use in uses}
    others = {commit for revision, commit in listed.items() if revision != DEFAULT_REVISION}
    return {r: commit for r, commit in listed.items() if r != DEFAULT_REVISION or commit not in others}


def _is_branch(revision: str) -> bool:
    return bool(revision) and not is_commit(revision) and is_revision(revision)
