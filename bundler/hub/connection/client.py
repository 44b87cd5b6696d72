"""What we ask the Hub about repositories: the commit of a revision, its files, a small file's text.

This module and `bundler.make.transfer` are the only code that uses the network. The session, its proxies and
certificates, the endpoint and the token are huggingface_hub's, as its users have set them up; the requests are made
here and not through `HfApi`, because there they have no time limit, or are repeated for half a minute against a proxy
that will never let them through.

Rule book:

* every request has a time limit (`HF_HUB_ETAG_TIMEOUT` to connect, `HF_HUB_DOWNLOAD_TIMEOUT` to answer);
* what cannot get better is not tried again: no route, a refusing proxy, a wrong certificate, an answer of no. A
  server's own trouble (5xx) is tried again for a few seconds;
* a rate limit is waited out for as long as the server asks, and the wait is announced;
* an answer is checked before it is believed: ids, commits, paths and hashes end up in file names.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, parse_ratelimit_headers

from bundler import __version__
from bundler.errors import BundleError, FormatError, HubError
from bundler.files.paths import check_relative_path
from bundler.hub.connection.endpoint import without_password
from bundler.hub.connection.failures import UnknownRevisionError, hub_errors, offline_error
from bundler.hub.connection.proxies import check_proxy_once
from bundler.plan.lock import LockedFile
from bundler.plan.names import RepoType, is_commit, is_repo_id
from bundler.text.wording import close_matches, name_some

__all__ = ["HubClient", "RemoteRevision", "hub_errors"]

_SERVER_TROUBLE = (500, 502, 503, 504)
_TRIES = 4
_MAX_RATE_LIMIT_WAITS = 10
# The Hub's windows are five minutes; a longer wait is better spent elsewhere.
_MAX_WAIT_SECONDS = 900


@dataclass(frozen=True, kw_only=True)
class RemoteRevision:
    """What a revision of a repository is on the Hub right now.

    Attributes:
        repo_id: The repository's present name, which differs from the asked one after a renaming.
        commit: 40 hex digits.
        gated: Its authors want to be asked for access.
    """

    repo_id: str
    commit: str
    gated: bool = False


class HubClient:
    """Asks one Hub; safe to use from several threads.

    Args:
        endpoint: The Hub's address; None for HF_ENDPOINT or huggingface.co.
        token: As in huggingface_hub: None for the environment's or the logged-in one, False for none.
        on_note: Called with a line about something that takes time, such as a rate limit.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        token: str | bool | None = None,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._token = token
        self._on_note = on_note

    def revision(self, repo_id: str, repo_type: RepoType, revision: str) -> RemoteRevision:
        """Resolve a branch, tag or commit, and make sure that the files may be read.

        Raises:
            HubError: No such repository or revision, gated, or refused for another reason.
            NetworkError: The Hub cannot be reached.
        """
        with hub_errors(repo_id=repo_id, repo_type=repo_type, revision=revision, endpoint=self.endpoint):
            try:
                answer = self._get(self._api(repo_id, repo_type, "revision", revision)).json()
            except RevisionNotFoundError as error:
                names = self._suggest(lambda: self._ref_names(repo_id, repo_type))
                raise _unknown_revision(repo_id, revision, names) from error
            found = RemoteRevision(
                repo_id=str(answer.get("id")), commit=str(answer.get("sha")), gated=bool(answer.get("gated"))
            )
            if not is_repo_id(found.repo_id) or not is_commit(found.commit):
                raise HubError(
                    f"{repo_id}: {without_password(self.endpoint)} named no repository and commit in its answer; found "
                    f"{found.repo_id[:80]!r} and {found.commit[:80]!r}",
                    hint="is this the address of a Hub? check HF_ENDPOINT",
                )
            if found.gated:
                self._check_access(found.repo_id, repo_type)
            return found

    def files(self, repo_id: str, repo_type: RepoType, commit: str) -> tuple[LockedFile, ...]:
        """List every file of a commit with its size and published hashes, sorted by path.

        Raises:
            HubError: Refused, or the answer has unsafe paths or impossible values.
            NetworkError: The Hub cannot be reached.
        """
        with hub_errors(repo_id=repo_id, repo_type=repo_type, revision=commit, endpoint=self.endpoint):
            url = self._api(repo_id, repo_type, "tree", commit)
            rows = [row for page in self._pages(url) for row in page if row.get("type") == "file"]
            try:
                files = [_locked_file(row) for row in rows]
            except (KeyError, TypeError, ValueError, FormatError) as error:
                raise HubError(
                    f"{repo_id}: {without_password(self.endpoint)} lists a file in an unexpected way: {error!r}"
                ) from error
            return tuple(sorted(files, key=lambda file: file.path))

    def read(self, repo_id: str, repo_type: RepoType, commit: str, path: str, *, max_bytes: int) -> bytes:
        """Return a small file's content, cut at `max_bytes`. It is advice, not cargo: nothing checks its hash.

        Raises:
            HubError: Refused.
            NetworkError: The Hub cannot be reached.
        """
        prefix = "datasets/" if repo_type == "dataset" else ""
        with hub_errors(repo_id=repo_id, repo_type=repo_type, revision=commit, path=path, endpoint=self.endpoint):
            url = f"{self.endpoint}/{prefix}{repo_id}/resolve/{quote(commit, safe='')}/{quote(path)}"
            return bytes(self._get(url).content[:max_bytes])

    def similar(self, repo_id: str, repo_type: RepoType) -> tuple[list[str], RepoType | None]:
        """Look for what an unknown name may have meant; never fails.

        Returns:
            Names of the same type by the same author, and the other type if the name exists there.
        """
        other: RepoType = "model" if repo_type == "dataset" else "dataset"
        author, _, name = repo_id.rpartition("/")
        query = {"author": author} if author else {"search": name}
        listed = self._suggest(
            lambda: [
                str(row.get("id"))
                for row in self._get(f"{self.endpoint}/api/{repo_type}s", {**query, "limit": "500"}).json()
            ]
        )
        there = self._suggest(lambda: [self._get(self._api(repo_id, other)).json()["id"]])
        return listed, other if there else None

    def _api(self, repo_id: str, repo_type: RepoType, *rest: str) -> str:
        return "/".join([f"{self.endpoint}/api/{repo_type}s/{repo_id}", *(quote(part, safe="") for part in rest)])

    def _ref_names(self, repo_id: str, repo_type: RepoType) -> list[str]:
        refs = self._get(self._api(repo_id, repo_type, "refs")).json()
        return [ref["name"] for kind in ("branches", "tags") for ref in refs.get(kind, [])]

    def _suggest(self, ask: Callable[[], list[str]]) -> list[str]:
        # A suggestion must never hide the error that it was meant to explain.
        try:
            return ask()
        except (HfHubHTTPError, httpx2.HTTPError, BundleError, ValueError, KeyError, TypeError, AttributeError):
            return []

    def _check_access(self, repo_id: str, repo_type: RepoType) -> None:
        # The Hub shows name, commit and file list of a gated repo to everyone; only the files are withheld. Asking now
        # saves finding out in the middle of a fetch.
        try:
            self._get(self._api(repo_id, repo_type, "auth-check"))
        except (GatedRepoError, RepositoryNotFoundError):
            raise
        except HfHubHTTPError:
            # A mirror without this page: the fetch will tell.
            return

    def _pages(self, url: str) -> Iterator[list[dict[str, Any]]]:
        query = {"recursive": "true", "expand": "false"}
        while True:
            response = self._get(url, query)
            yield response.json()
            following = response.links.get("next", {}).get("url")
            if not following:
                return
            # Only the cursor is taken from the link: a mirror passes on the Hub's own address, and the token belongs to
            # the endpoint that the user chose.
            query = dict(parse_qsl(urlsplit(following).query))

    def _get(self, url: str, query: dict[str, str] | None = None) -> httpx2.Response:
        if constants.is_offline_mode():
            raise offline_error()
        check_proxy_once(self.endpoint)
        headers = build_hf_headers(token=self._token, library_name="bundle", library_version=__version__)
        timeout = httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT, connect=constants.HF_HUB_ETAG_TIMEOUT)
        tries = waits = 0
        while True:
            response = get_session().get(url, params=query, headers=headers, timeout=timeout)
            if response.status_code == 429 and waits < _MAX_RATE_LIMIT_WAITS:
                waits += 1
                seconds = _wait_seconds(response.headers, default=2.0**waits)
                if seconds <= _MAX_WAIT_SECONDS:
                    self._on_note(
                        f"{without_password(self.endpoint)} is limiting the rate of requests; waiting {seconds:.0f} s"
                    )
                    time.sleep(seconds)
                    continue
            if response.status_code in _SERVER_TROUBLE and tries < _TRIES - 1:
                tries += 1
                time.sleep(2.0 ** (tries - 2))
                continue
            hf_raise_for_status(response)
            return response


def _wait_seconds(headers: httpx2.Headers, *, default: float) -> float:
    """Read how long a server wants to be left alone (RFC 9110, section 10.2.3, and the RateLimit draft)."""
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        # The window is told in whole seconds.
        return float(limit.reset_in_seconds) + 1
    after = headers.get("Retry-After", "").strip()
    if after.isdigit():
        return float(after)
    if after:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
        except ValueError:
            pass
    return default


def _locked_file(row: dict[str, Any]) -> LockedFile:
    lfs = row.get("lfs")
    file = LockedFile(
        path=check_relative_path(row["path"]),
        size_bytes=int(row["size"]),
        blob_id=row["oid"],
        # Written by some mirrors as git-lfs does, with the algorithm before it.
        lfs_sha256=lfs["oid"].removeprefix("sha256:") if lfs else None,
    )
    digits = set("0123456789abcdef")
    if file.size_bytes < 0 or not is_commit(file.blob_id):
        raise ValueError(f"{file.path}: size {file.size_bytes}, oid {file.blob_id!r}")
    if file.lfs_sha256 is not None and (len(file.lfs_sha256) != 64 or set(file.lfs_sha256) - digits):
        raise ValueError(f"{file.path}: lfs oid {file.lfs_sha256!r}")
    return file


def _unknown_revision(repo_id: str, revision: str, names: list[str]) -> UnknownRevisionError:
    close = close_matches(revision, names, cutoff=0.4)
    known = f"its branches and tags: {name_some(names, shown=8)}" if names else None
    return UnknownRevisionError(
        f"{repo_id} has no branch, tag or commit {revision!r}",
        hint=f"did you mean {' or '.join(close)}?" if close else known,
    )
