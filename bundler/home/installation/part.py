"""A part of a bundle: the repos that `bundle install --only` names, and what is there of the same bundle already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bundler.errors import NotInstalledError
from bundler.format.source import Source
from bundler.plan.lock import Lock, LockedRepo
from bundler.text.wording import close_matches


def select_part(bundle: Source, only: Sequence[str]) -> Lock:
    """Return the bundle's lock reduced to the repos that `only` names, or the whole lock if it names none.

    Raises:
        NotInstalledError: The bundle has no such repo; close names are given.
    """
    if not only:
        return bundle.lock
    repos = bundle.lock.repos
    known = {name for repo in repos for name in (repo.repo_id, *repo.aliases)}
    for name in only:
        if name not in known:
            close = close_matches(name, known, at_most=1)
            raise NotInstalledError(
                f"{bundle.label}: bundle {bundle.lock.name} has no repo {name!r}; it has: {', '.join(sorted(known))}",
                hint=f"did you mean {close[0]!r}?" if close else "choose one of these for --only",
            )
    # A repo is taken whole, all of its entries: they share a folder, and with it refs and listings.
    ids = {(r.repo_type, r.repo_id) for r in repos if {r.repo_id, *r.aliases} & set(only)}
    return bundle.lock.with_repos(tuple(r for r in repos if (r.repo_type, r.repo_id) in ids))


def join_parts(whole: Lock, part: Lock, there: Iterable[LockedRepo]) -> tuple[Lock, tuple[str, ...]]:
    """Return the lock of `part` and of what is `there` and the same in `whole`, and the ids of what is left out."""
    if part is whole:
        return whole, ()
    installed = {*part.repos, *there}
    repos = tuple(repo for repo in whole.repos if repo in installed)
    left_out = {repo.repo_id for repo in whole.repos} - {repo.repo_id for repo in repos}
    return whole.with_repos(repos), tuple(sorted(left_out))
