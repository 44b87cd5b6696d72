"""One file of a commit, from the Hub into the store: resumed, hashed while written, compared.

The client's own download checks no hashes, and forgets a half-written file when its process ends. So the address,
the headers with the token, the session with its proxies and certificates, and the waiting on a rate limit are
huggingface_hub's; the writing and the checking are ours.

Rule book:

* bytes go to a partial file of the store and are kept when this process dies; the next one asks for the rest;
* no more bytes are taken than the lock announces, whatever a server sends;
* content is compared with the hash that the Hub published when the lock was made, and with our own digests where
  the lock has them already. Content that does not match is fetched once more from its first byte, then refused;
* a file that lives in Xet storage comes through hf_xet when that is there, into a folder of its own (it writes out
  of order, so a half-written one is no use), and is hashed afterwards like any other.

Which files to fetch, and how many at once, is `bundler.fetch`'s business.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.utils import (
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
    silent_tqdm,
)

from bundler import __version__
from bundler.digest import BLOCK_BYTES, Algorithm, Digests, Hasher, hash_file
from bundler.errors import IntegrityError
from bundler.hub.failures import hub_errors
from bundler.hub.proxies import check_proxy_once
from bundler.lock import LockedFile, LockedRepo
from bundler.store import Partial, Store, StoredBlob

# How often in a row a connection may break without bringing one new byte.
RETRIES_WITHOUT_PROGRESS = 4
_RETRIED_STATUS_CODES = (408, 429, 500, 502, 503, 504)


class StoppedError(Exception):
    """The download was told to stop (Ctrl-C, or another file failed); what came so far is kept."""


@dataclass(frozen=True, kw_only=True)
class Downloader:
    """What all downloads of one fetch share.

    Attributes:
        store: Where the content goes.
        endpoint: The Hub's address; None for HF_ENDPOINT or huggingface.co.
        token: As in huggingface_hub: None for the environment's or the logged-in one, False for none.
        stop: Once set, downloads end with `StoppedError`.
        on_progress: Called with how many more bytes of the file are there, from the network or from an earlier
            run, or a negative number when some are thrown away; from several threads.
        on_received: Called with the number of bytes that came over the network; from several threads.
        on_note: Called with a line about something unusual that was dealt with.
    """

    store: Store
    endpoint: str | None = None
    token: str | bool | None = None
    stop: Event
    on_progress: Callable[[int], None] = lambda count: None
    on_received: Callable[[int], None] = lambda count: None
    on_note: Callable[[str], None] = lambda note: None

    def download(self, repo: LockedRepo, file: LockedFile) -> StoredBlob:
        """Bring one file into the store.

        Raises:
            IntegrityError: What the Hub sends is, twice, not what it published.
            HubError: It refused.
            NetworkError: It cannot be reached, or the connection broke too often.
            StoppedError: `stop` was set.
            OSError: The store cannot be written.
        """
        while True:
            with self.store.partial(file.etag) as partial:
                if partial is not None:
                    return self._into(partial, repo, file)
            # Another process was faster; what it stored is checked like anything that we did not write ourselves.
            if blob := self.store.verified(file.etag):
                return blob

    def _into(self, partial: Partial, repo: LockedRepo, file: LockedFile) -> StoredBlob:
        with hub_errors(
            repo_id=repo.repo_id,
            repo_type=repo.repo_type,
            revision=repo.revision,
            path=file.path,
            endpoint=self.endpoint,
        ):
            check_proxy_once(self.endpoint)
            url = hf_hub_url(
                repo.repo_id, file.path, repo_type=repo.repo_type, revision=repo.commit, endpoint=self.endpoint
            )
            headers = build_hf_headers(token=self.token, library_name="bundle", library_version=__version__)
            if blob := self._through_xet(url, headers, partial, repo, file):
                return blob
            digests = _Transfer(self, url, headers, partial, file).run()
            if fault := mismatch(file, digests):
                self.on_note(f"{repo.repo_id}: {file.path} arrived damaged ({fault}); fetching it once more")
                self._forget(partial)
                digests = _Transfer(self, url, headers, partial, file).run()
                self._refuse_mismatch(partial, repo, file, digests)
        return self.store.adopt(partial.path, StoredBlob.of(file.etag, digests))

    def _forget(self, partial: Partial) -> None:
        self.on_progress(-partial.size_bytes)
        partial.clear()

    def _refuse_mismatch(self, partial: Partial, repo: LockedRepo, file: LockedFile, digests: Digests) -> None:
        if fault := mismatch(file, digests):
            self._forget(partial)
            raise IntegrityError(
                f"{repo.repo_id}: {file.path} of commit {repo.commit}: {fault}, twice in a row",
                hint="a proxy or mirror in between may be changing or caching it: try again, or without it",
            )

    def _through_xet(
        self, url: str, headers: dict[str, str], partial: Partial, repo: LockedRepo, file: LockedFile
    ) -> StoredBlob | None:
        """Fetch a file by hf_xet; None when that is not the way for it."""
        # Xet only ever holds what was an LFS file; a half of it that came over HTTP is continued over HTTP.
        if file.lfs_sha256 is None or partial.size_bytes or not _xet_is_wanted():
            return None
        metadata = get_hf_file_metadata(url, headers=headers, token=self.token, endpoint=self.endpoint)
        if metadata.xet_file_data is None:
            return None
        from huggingface_hub.file_download import xet_get

        with self.store.work_folder() as folder:
            target = folder / file.etag
            for attempt in (1, 2):
                xet_get(
                    incomplete_path=target,
                    xet_file_data=metadata.xet_file_data,
                    headers=headers,
                    expected_size=file.size_bytes,
                    displayed_filename=file.path,
                    # This project draws its own bar, over all files.
                    tqdm_class=silent_tqdm,
                )
                if self.stop.is_set():
                    raise StoppedError
                self.on_received(target.stat().st_size)
                self.on_progress(target.stat().st_size)
                digests = hash_file(target, *_algorithms(file))
                if mismatch(file, digests) is None:
                    return self.store.adopt(target, StoredBlob.of(file.etag, digests))
                self.on_progress(-target.stat().st_size)
                target.unlink()
                if attempt == 2:
                    self._refuse_mismatch(partial, repo, file, digests)
        return None


class _Transfer:
    """One file over HTTP: everything that is missing after what the partial file holds."""

    def __init__(
        self, downloader: Downloader, url: str, headers: dict[str, str], partial: Partial, file: LockedFile
    ) -> None:
        self._downloader = downloader
        self._url = url
        # A compressed answer has another length, and its ranges are ranges of the compressed bytes.
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._partial = partial
        self._file = file
        self._hasher = self._fresh_hasher()
        self._have = 0

    def run(self) -> Digests:
        """Fetch to the end and return the digests of the whole file."""
        self._read_what_is_there()
        failures = 0
        while self._have < self._file.size_bytes:
            before = self._have
            try:
                self._request()
                if self._have < self._file.size_bytes:
                    raise httpx2.RemoteProtocolError(
                        f"the connection ended {self._file.size_bytes - self._have:,} bytes early"
                    )
            except (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError):
                failures = 1 if self._have > before else failures + 1
                if failures > RETRIES_WITHOUT_PROGRESS:
                    raise
                if self._downloader.stop.wait(min(2.0 ** (failures - 2), 8.0)):
                    raise StoppedError from None
        return self._hasher.result()

    def _fresh_hasher(self) -> Hasher:
        return Hasher(_algorithms(self._file), size_bytes=self._file.size_bytes)

    def _read_what_is_there(self) -> None:
        there = self._partial.size_bytes
        if there > self._file.size_bytes:
            # Longer than the file can be: not a part of it, whatever it is.
            self._partial.clear()
            return
        self._partial.file.seek(0)
        while block := self._partial.file.read(BLOCK_BYTES):
            self._take(block)

    def _take(self, block: bytes) -> None:
        if self._downloader.stop.is_set():
            raise StoppedError
        self._hasher.update(block)
        self._have += len(block)
        self._downloader.on_progress(len(block))

    def _start_over(self) -> None:
        self._downloader.on_progress(-self._have)
        self._partial.clear()
        self._hasher = self._fresh_hasher()
        self._have = 0

    def _request(self) -> None:
        headers = dict(self._headers)
        if self._have:
            headers["Range"] = f"bytes={self._have}-"
        with http_stream_backoff(
            method="GET",
            url=self._url,
            headers=headers,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            # Broken connections are retried by `run`, which knows how much has arrived.
            retry_on_exceptions=(),
            retry_on_status_codes=_RETRIED_STATUS_CODES,
        ) as response:
            if response.status_code == 416:
                self._start_over()
                return
            hf_raise_for_status(response)
            if self._have and not _continues(response, self._have):
                # A server may ignore Range and send the whole file.
                self._start_over()
            for block in response.iter_bytes(BLOCK_BYTES):
                room = self._file.size_bytes - self._have
                kept = block[:room]
                self._partial.write(kept)
                self._downloader.on_received(len(kept))
                self._take(kept)
                if len(block) > room:
                    # Longer than announced: the rest cannot make it right, and might never end.
                    return


def _continues(response: Any, offset: int) -> bool:
    """Tell whether an answer starts at `offset` (RFC 9110, section 14.4)."""
    return response.status_code == 206 and str(response.headers.get("Content-Range", "")).startswith(
        f"bytes {offset}-"
    )


def _algorithms(file: LockedFile) -> tuple[Algorithm, ...]:
    # The git hash of an LFS file is published for its pointer only.
    return ("sha256", "blake3") if file.lfs_sha256 else ("sha256", "blake3", "git_sha1")


def mismatch(file: LockedFile, found: Digests | StoredBlob) -> str | None:
    """Compare content with everything that the lock knows of it.

    Returns:
        What was expected and what was found, or None if all agrees.
    """
    if found.size_bytes != file.size_bytes:
        return f"expected {file.size_bytes:,} bytes, found {found.size_bytes:,}"
    pairs = [
        ("sha256", "published by the Hub", file.lfs_sha256, found.sha256),
        ("sha256", "in the lock", file.sha256, found.sha256),
        ("blake3", "in the lock", file.blake3, found.blake3),
    ]
    if file.lfs_sha256 is None:
        pairs.append(("git-sha1", "published by the Hub", file.blob_id, found.git_sha1))
    for name, origin, expected, actual in pairs:
        if expected is not None and expected != actual:
            return f"expected {name} {expected} ({origin}), found {actual}"
    return None


def _xet_is_wanted() -> bool:
    if constants.HF_HUB_DISABLE_XET:
        return False
    return importlib.util.find_spec("hf_xet") is not None
