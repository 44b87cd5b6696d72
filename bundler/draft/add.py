"""Add repos to a manifest by their names, and files of other hosts by their addresses.

`bundle add` parses options, calls this and prints.

Where it is not said what a name is, the Hub is asked: a model, a tokenizer where the repo has no weights, or a dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bundler.draft.write import Written, add_entries
from bundler.errors import HubError, ManifestError, UsageError
from bundler.hub.connection.endpoint import DEFAULT_ENDPOINT, check_endpoint
from bundler.plan.file_entry import FileEntry
from bundler.plan.file_rules import Into, url_problem
from bundler.plan.manifest import Entry
from bundler.plan.manifest_rules import repo_id_problem
from bundler.plan.names import HUB_TYPES, RepoKind, RepoType

if TYPE_CHECKING:
    from bundler.hub.connection.client import HubClient, RemoteRevision

_ADDRESSES = ("http://", "https://")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is said of the repos to add; the attributes are the keys of an entry.

    Attributes:
        kind: What they are; None to ask the Hub.
        revision: Branch, tag or commit.
        aliases: Other names that code loads it by; of one repo only.
        configs: Configurations of a dataset.
        patterns: Files to take; empty for the default choice.
        trust_remote_code: Whether to take their Python.
        allow_pickle: Whether to take pickle weights.
        into: Who looks for a file; None for a program that does itself.
    """

    kind: RepoKind | None = None
    revision: str = "main"
    aliases: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    trust_remote_code: bool = False
    allow_pickle: bool = False
    into: Into | None = None


def add_repos(names: Sequence[str], path: Path, wish: Wish, *, name: str | None = None) -> Written:
    """Add an entry for each of these repos and files to the manifest at `path`, or begin it.

    Args:
        names: Ids on the Hub, and addresses of files.
        path: The manifest.
        wish: What is said of them.
        name: The bundle's name in a new manifest.

    Raises:
        ManifestError: The manifest has faults, or would have some; nothing was changed.
        UsageError: A name is none of a repo, means two repos, or shares its aliases with another; or an address is no
            file's of another host.
        HubError: The Hub has no such repo or revision.
        NetworkError: The Hub cannot be reached.
    """
    files = [_make_file(url, wish) for url in names if url.startswith(_ADDRESSES)]
    repo_ids = [repo_id for repo_id in names if not repo_id.startswith(_ADDRESSES)]
    if wish.into and not files:
        raise UsageError("--into says who looks for a file, and no address of one is given")
    for repo_id in repo_ids:
        if problem := repo_id_problem(repo_id):
            raise UsageError(problem)
    if wish.aliases and len(repo_ids) > 1:
        raise UsageError("an alias is another name of one repo", hint="add the repos one by one")
    entries = [_complete(_ask(repo_id, wish), wish) for repo_id in repo_ids]
    return add_entries(
        path, entries, files=files, name=name, comment="Begun by `bundle add`; edit it as you like."
    )


def _make_file(url: str, wish: Wish) -> FileEntry:
    entry = FileEntry(url=url, into=wish.into or "files")
    if problem := url_problem(url):
        raise UsageError(f"{url}: {problem}")
    if urlsplit(url).hostname in {urlsplit(hub).hostname for hub in (DEFAULT_ENDPOINT, check_endpoint())}:
        raise UsageError(
            f"expected a file of another host, found an address of the Hub: {url}",
            hint="name the repo, such as `bundle add org/name`; --include takes some of its files",
        )
    if problem := next((f"{name}: {text}" for name, text in entry.conflicts()), None):
        raise UsageError(f"{url}: {problem}", hint="write the entry into the manifest, under files")
    return entry


def _complete(entry: Entry, wish: Wish) -> Entry:
    return replace(
        entry,
        aliases=tuple(dict.fromkeys((*entry.aliases, *wish.aliases))),
        configs=wish.configs,
        allow_patterns=wish.patterns or None,
        trust_remote_code=wish.trust_remote_code,
        allow_pickle=wish.allow_pickle,
    )


def _ask(repo_id: str, wish: Wish) -> Entry:
    if wish.kind:
        return Entry(kind=wish.kind, repo_id=repo_id, revision=wish.revision)
    check_endpoint()
    # Imported here because the client reads HF_ENDPOINT when it is imported, and is not needed with a kind.
    from bundler.hub.connection.client import HubClient

    return ask_kind(repo_id, wish, HubClient())


def ask_kind(repo_id: str, wish: Wish, client: HubClient) -> Entry:
    """Return the entry for a name, as the Hub has it: with its present name, and the one that was given as an alias.

    Raises:
        UsageError: It is both a model and a dataset.
        HubError: The Hub has neither, or not that revision.
        NetworkError: The Hub cannot be reached.
    """
    found: dict[RepoType, RemoteRevision] = {}
    errors = []
    for repo_type in HUB_TYPES:
        try:
            found[repo_type] = client.revision(repo_id, repo_type, wish.revision)
        except HubError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    if len(found) > 1:
        raise UsageError(
            f"{repo_id} is {' and '.join(f'a {repo_type}' for repo_type in found)}: these are different repos",
            hint=f"say which: {' or '.join(f'--as {repo_type}' for repo_type in found)}",
        )
    ((repo_type, remote),) = found.items()
    aliases = () if remote.repo_id == repo_id else (repo_id,)
    entry = Entry(kind=repo_type, repo_id=remote.repo_id, revision=wish.revision, aliases=aliases)
    return _choose_tokenizer(entry, wish, remote, client) if repo_type == "model" else entry


def _choose_tokenizer(entry: Entry, wish: Wish, remote: RemoteRevision, client: HubClient) -> Entry:
    """Return the entry of a model repo under tokenizers, if that is all it has."""
    from bundler.hub.selection.files import select

    paths = [file.path for file in client.files(remote.repo_id, "model", remote.commit)]
    tokenizer = replace(entry, kind="tokenizer")
    for tried in (entry, tokenizer):
        try:
            select(replace(tried, allow_pickle=tried.kind == "model"), paths)
        except ManifestError:
            continue
        return tried
    return entry
