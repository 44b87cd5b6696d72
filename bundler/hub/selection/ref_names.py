"""What resolved repositories are called together: their refs, and names that mean one repository each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bundler.errors import HubError, ManifestError
from bundler.plan.lock import LockedRepo
from bundler.plan.names import DEFAULT_REVISION


def name_pinned(repos: tuple[LockedRepo, ...]) -> tuple[LockedRepo, ...]:
    """Give a ref to each repo that all of its entries pin by one commit: most code names no revision."""
    revisions: dict[tuple[str, str], set[str]] = {}
    for repo in repos:
        revisions.setdefault((repo.repo_type, repo.repo_id), set()).add(repo.revision)
    return tuple(
        replace(repo, refs=(DEFAULT_REVISION,))
        if revisions[repo.repo_type, repo.repo_id] == {repo.commit}
        else repo
        for repo in repos
    )


def check_names(repos: Iterable[LockedRepo]) -> None:
    """Check names again, as the manifest's reader did, now with the present names of renamed repositories."""
    commits: dict[tuple[str, str, str], str] = {}
    owners: dict[tuple[str, str], str] = {}
    for repo in repos:
        owners.setdefault((repo.repo_type, repo.repo_id), repo.repo_id)
    for repo in repos:
        if commits.setdefault((repo.repo_type, repo.repo_id, repo.revision), repo.commit) != repo.commit:
            raise HubError(
                f"{repo.repo_id}: {repo.revision} changed on the Hub while it was being resolved",
                hint="run the same command again",
            )
        for alias in repo.aliases:
            owner = owners.setdefault((repo.repo_type, alias), repo.repo_id)
            if owner != repo.repo_id:
                raise ManifestError(
                    f"{alias} would mean both {owner} and {repo.repo_id}",
                    hint="one of them was renamed on the Hub: correct the aliases in the manifest",
                )
