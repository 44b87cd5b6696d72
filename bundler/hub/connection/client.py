"""Ask the Hub about repositories: the commit of a revision, its files, the content of a small file.

Only this module, `bundler.make.download` and, for addresses of bundles, `bundler.remote` use the network. Session,
proxies, certificates, endpoint and token are those of huggingface_hub, as its user configured them. The requests are
made here and not with `HfApi`, because `HfApi` sets no time limit on some, and repeats others for half a minute against
a proxy that always refuses.

Rule book:

* every request has a time limit (`HF_HUB_ETAG_TIMEOUT` to connect, `HF_HUB_DOWNLOAD_TIMEOUT` to answer), and every
  answer a time and a size that it may take (`bundler.hub.connection.answers`);
* a listing has an end: so many pages, so many files, so much time;
* a permanent failure is not retried: no route, a proxy that refuses, a wrong certificate, a refusal by the Hub. A
  server error (5xx) is retried for a few seconds;
* under a rate limit the client waits as long as the server asks, and says so;
* every answer is checked, because ids, commits, paths and hashes become parts of file names. A file name that git takes
  and no bundle can hold is set aside: it matters only to who wants that file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
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
from huggingface_hub.utils import build_hf_headers

from bundler import __version__
from bundler.errors import BundleError, FormatError, HubError
from bundler.files.paths import check_relative_path, relative_path_problem
from bundler.hub.connection.answers import (
    ACCEPTED,
    MOST_ANSWER_BYTES,
    MOST_REFUSAL_BYTES,
    json_object,
    json_rows,
    open_answer,
    raise_refusal,
    read_whole,
    wait_seconds,
    within,
)
from bundler.hub.connection.endpoint import DEFAULT_ENDPOINT, host_of, without_password
from bundler.hub.connection.failures import UnknownRevisionError, hub_errors, offline_error
from bundler.hub.connection.proxies import check_proxy_once
from bundler.plan.lock import LockedFile
from bundler.plan.names import HUB_TYPES, RepoType, address_prefix, is_commit, is_repo_id
from bundler.text.wording import close_matches, name_some

__all__ = ["HubClient", "RemoteRevision", "hub_errors"]

_SERVER_TROUBLE = (500, 502, 503, 504)
_TRIES = 4
_MAX_RATE_LIMIT_WAITS = 10
# The Hub counts requests in windows of five minutes. A longer wait is an error, so that the user can decide.
_MAX_WAIT_SECONDS = 900
# A repo on the Hub has a hundred thousand files at most, and a page a thousand.
MOST_PAGES = 300
MOST_FILES = 200_000
MOST_LISTING_SECONDS = 600.0
_MOST_SIZE_BYTES = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class RemoteRevision:
    """The present state of a revision on the Hub.

    Attributes:
        repo_id: The repository's present name; it differs from the name asked for if the repository was renamed.
        commit: 40 hex digits.
        gated: Whether users must ask its authors for access.
    """

    repo_id: str
    commit: str
    gated: bool = False


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a commit.

    Attributes:
        files: Those that a bundle can hold, sorted by path.
        refused: Path -> what is wrong with it, for the others.
    """

    files: tuple[LockedFile, ...]
    refused: dict[str, str]


class HubClient:
    """Asks one Hub; safe to use from several threads.

    Args:
        endpoint: The Hub's address; None for HF_ENDPOINT or huggingface.co.
        token: As in huggingface_hub: None for that of the environment or the login, False for none.
        on_note: Called with a line of text when something takes long, such as a rate limit.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        token: str | bool | None = None,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.endpoint = (endpoint or constants.ENDPOINT or DEFAULT_ENDPOINT).rstrip("/")
        self._token = token
        self._on_note = on_note

    def revision(self, repo_id: str, repo_type: RepoType, revision: str) -> RemoteRevision:
        """Resolve a branch, tag or commit, and check that its files may be read.

        Raises:
            HubError: The repository or revision does not exist, is gated, or is refused for another reason.
            NetworkError: The Hub cannot be reached.
        """
        with hub_errors(repo_id=repo_id, repo_type=repo_type, revision=revision, endpoint=self.endpoint):
            try:
                answer = json_object(self._get(self._api_url(repo_id, repo_type, "revision", revision)))
            except RevisionNotFoundError as error:
                names = self._suggest(lambda: self._list_ref_names(repo_id, repo_type))
                raise _explain_unknown_revision(repo_id, revision, names) from error
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
        """Return the `files` of `listing`."""
        return self.listing(repo_id, repo_type, commit).files

    def listing(self, repo_id: str, repo_type: RepoType, commit: str) -> Listing:
        """List every file of a commit with its size and published hashes.

        Raises:
            HubError: The Hub refused, or its answer has paths that no repository has, or impossible values.
            NetworkError: The Hub cannot be reached.
        """
        with hub_errors(repo_id=repo_id, repo_type=repo_type, revision=commit, endpoint=self.endpoint):
            url = self._api_url(repo_id, repo_type, "tree", commit)
            files: dict[str, LockedFile] = {}
            refused: dict[str, str] = {}
            try:
                for page in self._read_pages(url):
                    rows = [row for row in page if row.get("type") == "file"]
                    refused |= {row["path"]: problem for row in rows if (problem := _name_problem(row["path"]))}
                    for file in [_parse_file(row) for row in rows if row["path"] not in refused]:
                        if files.setdefault(file.path, file) != file:
                            raise ValueError(f"{file.path}: listed twice, with different contents")
                    if len(files) + len(refused) > MOST_FILES:
                        raise ValueError(f"more than {MOST_FILES:,} files")
                _refuse_files_in_files(files)
            except json.JSONDecodeError:
                raise
            except (KeyError, TypeError, ValueError, AttributeError, FormatError) as error:
                what = f"{repo_id}: {without_password(self.endpoint)} lists files in an unexpected way"
                raise HubError(f"{what}: {repr(error)[:300]}") from error
            return Listing(files=tuple(file for _, file in sorted(files.items())), refused=refused)

    def read(self, repo_id: str, repo_type: RepoType, commit: str, path: str, *, size_bytes: int) -> bytes:
        """Return the content of a small file that the listing has. It is advice, not cargo: nothing checks its hash.

        Raises:
            HubError: Refused, or longer than it is listed.
            NetworkError: The Hub cannot be reached.
        """
        with hub_errors(repo_id=repo_id, repo_type=repo_type, revision=commit, path=path, endpoint=self.endpoint):
            url = f"{self.endpoint}/{address_prefix(repo_type)}{repo_id}/resolve/{quote(commit, safe='')}/{quote(path)}"
            return self._get(url, most_bytes=size_bytes).content

    def similar(self, repo_id: str, repo_type: RepoType) -> tuple[list[str], RepoType | None]:
        """Look for repositories that an unknown name may have meant; raises no error.

        Returns:
            Names of the same type and author; and another repo type, if the name exists there, else None.
        """
        author, _, name = repo_id.rpartition("/")
        query = {"author": author} if author else {"search": name}
        listed = self._suggest(
            lambda: [
                str(row.get("id"))
                for row in json_rows(self._get(f"{self.endpoint}/api/{repo_type}s", {**query, "limit": "500"}))
            ]
        )
        for other in HUB_TYPES:
            if other != repo_type and self._suggest(partial(self._ask_for_id, repo_id, other)):
                return listed, other
        return listed, None

    def _ask_for_id(self, repo_id: str, repo_type: RepoType) -> list[str]:
        return [str(json_object(self._get(self._api_url(repo_id, repo_type)))["id"])]

    def _api_url(self, repo_id: str, repo_type: RepoType, *rest: str) -> str:
        return "/".join([f"{self.endpoint}/api/{repo_type}s/{repo_id}", *(quote(part, safe="") for part in rest)])

    def _list_ref_names(self, repo_id: str, repo_type: RepoType) -> list[str]:
        refs = json_object(self._get(self._api_url(repo_id, repo_type, "refs")))
        return [str(ref["name"]) for kind in ("branches", "tags") for ref in refs.get(kind, [])]

    def _suggest(self, ask: Callable[[], list[str]]) -> list[str]:
        # If the suggestion fails, the error that it should explain must still be shown.
        try:
            return ask()
        except (HfHubHTTPError, httpx2.HTTPError, BundleError, ValueError, KeyError, TypeError, AttributeError):
            return []

    def _check_access(self, repo_id: str, repo_type: RepoType) -> None:
        # The Hub shows name, commit and file list of a gated repo to everyone, and refuses only the files. Asking now
        # avoids a refusal in the middle of a fetch.
        try:
            self._get(self._api_url(repo_id, repo_type, "auth-check"))
        except (GatedRepoError, RepositoryNotFoundError):
            raise
        except HfHubHTTPError:
            # Some mirrors do not have this address. The fetch will fail if access is missing.
            return

    def _read_pages(self, url: str) -> Iterator[list[dict[str, Any]]]:
        query = {"recursive": "true", "expand": "false"}
        begun = time.monotonic()
        for _ in range(MOST_PAGES):
            response = self._get(url, query)
            yield json_rows(response)
            following = response.links.get("next", {}).get("url")
            if not following:
                return
            # Use only the cursor of the link: a mirror may return the Hub's own address in it, and the token must be
            # sent only to the endpoint that the user chose.
            before, query = query, dict(parse_qsl(urlsplit(following).query))
            if query == before:
                raise ValueError("the page after a page is itself")
            if time.monotonic() - begun > MOST_LISTING_SECONDS:
                raise ValueError(f"no end within {MOST_LISTING_SECONDS:.0f} s")
        raise ValueError(f"no end within {MOST_PAGES} pages")

    def _get(
        self,
        url: str,
        query: dict[str, str] | None = None,
        *,
        most_bytes: int = MOST_ANSWER_BYTES,
    ) -> httpx2.Response:
        if constants.is_offline_mode():
            raise offline_error()
        check_proxy_once(self.endpoint)
        headers = build_hf_headers(token=self._token, library_name="bundle", library_version=__version__)
        headers["Accept-Encoding"] = ACCEPTED
        timeout = httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT, connect=constants.HF_HUB_ETAG_TIMEOUT)

        def ask() -> httpx2.Response:
            with open_answer(url, params=query, headers=headers, timeout=timeout) as streamed:
                if streamed.status_code in (429, *_SERVER_TROUBLE):
                    # Asked again below, or refused there.
                    return read_whole(streamed, MOST_REFUSAL_BYTES, cut=True)
                raise_refusal(streamed)
                return read_whole(streamed, most_bytes)

        tries, waits, waited = 0, 0, 0.0
        while True:
            response = within(ask, host=host_of(self.endpoint))
            if response.status_code == 429 and waits < _MAX_RATE_LIMIT_WAITS:
                waits += 1
                seconds = wait_seconds(response.headers, default=2.0**waits)
                waited += seconds
                if waited <= _MAX_WAIT_SECONDS:
                    self._on_note(
                        f"{without_password(self.endpoint)} is limiting the rate of requests; waiting {seconds:.0f} s"
                    )
                    time.sleep(seconds)
                    continue
            if response.status_code in _SERVER_TROUBLE and tries < _TRIES - 1:
                tries += 1
                time.sleep(2.0 ** (tries - 2))
                continue
            raise_refusal(response)
            return response


def _name_problem(path: str) -> str | None:
    """Return why no bundle can hold a file of this name; None also for a path that no repository can have."""
    is_possible = not any(segment in ("", ".", "..") for segment in path.split("/"))
    return relative_path_problem(path) if is_possible else None


def _parse_file(row: dict[str, Any]) -> LockedFile:
    lfs = row.get("lfs")
    file = LockedFile(
        path=check_relative_path(row["path"]),
        size_bytes=row["size"],
        blob_id=row["oid"],
        # Some mirrors write the algorithm first, as git-lfs does.
        lfs_sha256=lfs["oid"].removeprefix("sha256:") if lfs else None,
    )
    digits = set("0123456789abcdef")
    if type(file.size_bytes) is not int or not 0 <= file.size_bytes <= _MOST_SIZE_BYTES:
        raise ValueError(f"{file.path}: a size that no file has")
    if not is_commit(file.blob_id):
        raise ValueError(f"{file.path}: oid {file.blob_id!r}")
    if file.lfs_sha256 is not None and (len(file.lfs_sha256) != 64 or set(file.lfs_sha256) - digits):
        raise ValueError(f"{file.path}: lfs oid {file.lfs_sha256!r}")
    return file


def _refuse_files_in_files(paths: Collection[str]) -> None:
    for path in paths:
        folder = path
        while folder := folder.rpartition("/")[0]:
            if folder in paths:
                raise ValueError(f"{folder}: listed as a file and as a folder")


def _explain_unknown_revision(repo_id: str, revision: str, names: list[str]) -> UnknownRevisionError:
    close = close_matches(revision, names, cutoff=0.4)
    known = f"its branches and tags: {name_some(names, shown=8)}" if names else None
    return UnknownRevisionError(
        f"{repo_id} has no branch, tag or commit {revision!r}",
        hint=f"did you mean {' or '.join(close)}?" if close else known,
    )
