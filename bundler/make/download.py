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

Which files to fetch, and how many at once, is `bundler.make.fetch`'s business.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.utils import build_hf_headers, silent_tqdm

from bundler import __version__
from bundler.errors import IntegrityError
from bundler.files.digest import hash_file
from bundler.hub.connection.failures import hub_errors
from bundler.hub.connection.proxies import check_proxy_once
from bundler.make.partial import Partial
from bundler.make.store import Store, StoredBlob
from bundler.make.transfer import StoppedError, Transfer, algorithms, mismatch
from bundler.plan.lock import LockedFile, LockedRepo


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

    def download(self, repo: LockedRepo, file: LockedFile) -> StoredBlob | None:
        """Bring one file into the store.

        Returns:
            What was stored; None when another process was faster. What that one stored is to be looked at like
            anything that is found in the store.

        Raises:
            IntegrityError: What the Hub sends is, twice, not what it published.
            HubError: It refused.
            NetworkError: It cannot be reached, or the connection broke too often.
            StoppedError: `stop` was set.
            OSError: The store cannot be written.
        """
        with self.store.partial(file.etag) as partial:
            return self._into(partial, repo, file) if partial is not None else None

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
            transfer = self._transfer(url, headers, partial, file)
            digests = transfer.run()
            if fault := transfer.fault(digests):
                self.on_note(f"{repo.repo_id}: {file.path} arrived damaged ({fault}); fetching it once more")
                self._forget(partial)
                transfer = self._transfer(url, headers, partial, file)
                digests = transfer.run()
                if fault := transfer.fault(digests):
                    self._forget(partial)
                    raise _mismatch_error(repo, file, fault)
        return self.store.adopt(partial.path, StoredBlob.of(file.etag, digests))

    def _transfer(self, url: str, headers: dict[str, str], partial: Partial, file: LockedFile) -> Transfer:
        return Transfer(
            url,
            headers,
            partial,
            file,
            stop=self.stop,
            on_progress=self.on_progress,
            on_received=self.on_received,
        )

    def _forget(self, partial: Partial) -> None:
        self.on_progress(-partial.size_bytes)
        partial.clear()

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
                digests = hash_file(target, *algorithms(file))
                fault = mismatch(file, digests)
                if fault is None:
                    return self.store.adopt(target, StoredBlob.of(file.etag, digests))
                self.on_progress(-target.stat().st_size)
                target.unlink()
                if attempt == 2:
                    raise _mismatch_error(repo, file, fault)
        return None


def _mismatch_error(repo: LockedRepo, file: LockedFile, fault: str) -> IntegrityError:
    return IntegrityError(
        f"{repo.repo_id}: {file.path} of commit {repo.commit}: {fault}, twice in a row",
        hint="a proxy or mirror in between may be changing or caching it: try again, or without it. If the lock was "
        "edited or damaged, write it again with `bundle lock --upgrade`",
    )


def _xet_is_wanted() -> bool:
    if constants.HF_HUB_DISABLE_XET:
        return False
    return importlib.util.find_spec("hf_xet") is not None
