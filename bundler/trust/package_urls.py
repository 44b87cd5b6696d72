"""Package URLs of what a lock names, for bills of materials.

Type `huggingface` as the purl specification gives it; datasets, kernels and spaces stand under `datasets/` and so on,
as in the Hub's own addresses. Files of other hosts have type `generic`.

Source: github.com/package-url/purl-spec, types/huggingface and types/generic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bundler.errors import LockError
from bundler.plan.file_rules import host_of_url
from bundler.plan.names import address_prefix

if TYPE_CHECKING:
    from packageurl import PackageURL

    from bundler.plan.lock import Lock, LockedRepo, Origin
    from bundler.plan.names import RepoType

# The libraries that write bills take a millisecond for each name, and a lock of a megabyte may have a million.
MAX_NAMES = 2000


def group_by_url(lock: Lock) -> dict[str, list[LockedRepo]]:
    """Return the entries of a lock by the package URL of the repo and commit that they are of.

    Raises:
        LockError: There are more repos, aliases and names in cards than `MAX_NAMES`.
    """
    names = 0
    for entry in lock.repos:
        names += 1 + len(entry.aliases)
        if entry.card is not None:
            names += sum(map(len, (entry.card.licenses, entry.card.base_models, entry.card.datasets)))
    if names > MAX_NAMES:
        raise LockError(
            f"a bill of materials is written for at most {MAX_NAMES:,} repos, aliases, and licences and origins that "
            f"cards name; the lock of {lock.name!r} has {names:,}",
            hint="`bundle inspect` lists them",
        )
    # One file of another host may go to two places, and stands in two entries.
    by_url: dict[str, list[LockedRepo]] = {}
    for entry in lock.repos:
        by_url.setdefault(str(url_of_entry(entry)), []).append(entry)
    return by_url


def url_of_entry(entry: LockedRepo) -> PackageURL:
    """Return the package URL of an entry of a lock, with its commit or its digest."""
    if entry.origin is not None:
        return _url_of_origin(entry.origin)
    return url_of_repo(entry.repo_type, entry.repo_id, entry.commit)


def url_of_repo(repo_type: RepoType, repo_id: str, commit: str | None = None) -> PackageURL:
    """Return the package URL of a repo on the Hub.

    Args:
        repo_type: Its type.
        repo_id: For which `is_repo_id` holds.
        commit: None for whatever is there now.
    """
    from packageurl import PackageURL

    namespace, _, name = repo_id.rpartition("/")
    namespace = f"{address_prefix(repo_type)}{namespace}".rstrip("/")
    return PackageURL("huggingface", namespace or None, name, commit)


def _url_of_origin(origin: Origin) -> PackageURL:
    from packageurl import PackageURL

    name = urlsplit(origin.url).path.rpartition("/")[2] or host_of_url(origin.url)
    return PackageURL(
        "generic", None, name, None, {"checksum": f"sha256:{origin.sha256}", "download_url": origin.url}
    )
