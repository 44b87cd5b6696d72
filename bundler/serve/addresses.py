"""Addresses of the Hub: which repo a request is about, and what it asks of it.

    /api/{models,datasets,kernels,spaces}/ID[/VERB/...]      the API
    /ID/resolve/REVISION/PATH                                a model's file
    /{datasets,kernels,spaces}/ID/resolve/REVISION/PATH      a file of another kind of repo

Addresses are split at their raw slashes and decoded piece by piece: clients send a revision, and some a path, as one
piece with its slashes encoded. The pieces only ever serve to look things up, so nothing is made of ``..``.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from bundler.plan.names import HUB_TYPES, RepoType
from bundler.serve.source import RepoKey

REPO_TYPES: dict[str, RepoType] = {f"{repo_type}s": repo_type for repo_type in HUB_TYPES}

_API_VERBS = frozenset({"revision", "tree", "paths-info", "refs", "commits", "discussions", "auth-check"})
_FILE_VERBS = frozenset({"resolve"})


def split_path(raw_path: bytes) -> tuple[str, ...]:
    """Return the pieces of a request's path, still encoded."""
    return tuple(raw_path.decode("ascii", "replace").lstrip("/").split("/"))


@dataclass(frozen=True)
class RepoAddress:
    """What a request asks of a repo.

    Attributes:
        key: The repo as the client named it.
        verb: What is asked; "" for the repo's info.
        arguments: Decoded pieces after the verb.
        prefix: What stands before the repo's id.
        raw_tail: Everything after the repo's id as it was sent, from its slash on.
    """

    key: RepoKey
    verb: str
    arguments: tuple[str, ...]
    prefix: str
    raw_tail: str

    @classmethod
    def parse(cls, pieces: tuple[str, ...]) -> RepoAddress | None:
        """Read the pieces of a path; None when they are no address of a repo."""
        match pieces:
            case ("api", plural, *rest) if plural in REPO_TYPES:
                return cls._split(REPO_TYPES[plural], f"/api/{plural}/", rest, _API_VERBS)
            case ("api", *_):
                return None
            case (plural, *rest) if plural in REPO_TYPES and plural != "models":
                address = cls._split(REPO_TYPES[plural], f"/{plural}/", rest, _FILE_VERBS)
            case rest:
                address = cls._split("model", "/", list(rest), _FILE_VERBS)
        # A repo's page for people is not served.
        return address if address and address.verb else None

    @classmethod
    def _split(
        cls, repo_type: RepoType, prefix: str, pieces: list[str], verbs: frozenset[str]
    ) -> RepoAddress | None:
        # A repo's id has two pieces, unless the second is a verb already.
        count = 1 if len(pieces) < 2 or pieces[1] in verbs else 2
        repo_id = "/".join(unquote(piece) for piece in pieces[:count])
        tail = pieces[count:]
        if not repo_id or (tail and tail[0] not in verbs):
            return None
        return cls(
            key=RepoKey(repo_type, repo_id),
            verb=tail[0] if tail else "",
            arguments=tuple(unquote(piece) for piece in tail[1:]),
            prefix=prefix,
            raw_tail="".join(f"/{piece}" for piece in tail),
        )

    def moved_to(self, key: RepoKey, query: str) -> str:
        """Return the same address for another repo, relative to the server, with the query as it was sent."""
        return f"{self.prefix}{quote(key.repo_id)}{self.raw_tail}" + (f"?{query}" if query else "")
