"""Download one file of a commit into the store: resumed, hashed while it is written, and compared with the lock.

The download of huggingface_hub checks no hashes, and loses a half-written file when its process ends. So address,
headers, token, session, proxies, certificates and the waiting under a rate limit come from huggingface_hub; writing and
checking are ours.

Rule book:

* bytes go to a partial file in the store, which stays when this process dies; the next process asks for the rest;
* no more bytes are read than the lock states, whatever a server sends;
* content is compared with the hash that the Hub published when the lock was made, and with our own digests if the lock
  has them. Content that does not match is fetched once more from its first byte, and then refused;
* a file in Xet storage is fetched with hf_xet if that is installed, into a separate folder (hf_xet writes out of order,
  so a half-written file cannot be continued), and is hashed afterwards like any other. If Xet storage does not work, or
  brings something else, the file comes over HTTP, and a note says so.

`bundler.make.fetch` decides which files to fetch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.utils import build_hf_headers

from bundler import __version__
from bundler.errors import IntegrityError
from bundler.files.digest import hash_file
from bundler.hub.connection.answers import within
from bundler.hub.connection.crew import Crew
from bundler.hub.connection.endpoint import host_of
from bundler.hub.connection.failures import hub_errors
from bundler.hub.connection.proxies import check_proxy_once
from bundler.hub.connection.xet import XetFailedError, XetStorage
from bundler.make.download.request import Address, Control, StoppedError
from bundler.make.download.transfer import Transfer, algorithms, mismatch
from bundler.make.staging.partial import Partial
from bundler.make.store import Store, StoredBlob
from bundler.plan.lock import LockedFile, LockedRepo


@dataclass(frozen=True, kw_only=True)
class Downloader:
    """Downloads files; holds what all downloads of a fetch share.

    Attributes:
        store: Where the content goes.
        endpoint: The Hub's address; None for HF_ENDPOINT or huggingface.co.
        token: As in huggingface_hub: None for that of the environment or the login, False for none.
        control: How downloads are stopped, and who hears of their bytes.
        on_note: Called with a line of text about something unusual that was handled.
        crew: Who helps with large files; None for one connection a file.
        xet: Whether Xet storage is still tried.
    """

    store: Store
    endpoint: str | None = None
    token: str | bool | None = None
    control: Control = field(default_factory=Control)
    on_note: Callable[[str], None] = lambda note: None
    crew: Crew | None = None
    xet: XetStorage = field(default_factory=XetStorage)

    def download(self, repo: LockedRepo, file: LockedFile) -> StoredBlob | None:
        """Bring one file into the store.

        Returns:
            The stored blob; None if another process stored it first. The caller must then verify it like any other blob
            in the store.

        Raises:
            IntegrityError: The Hub sent, twice, other bytes than it published.
            HubError: The Hub refused.
            NetworkError: The Hub cannot be reached, or the connection broke too often.
            StoppedError: `stop` was set.
            OSError: The store cannot be written.
        """
        with self.store.partial(file.etag, file.size_bytes) as partial:
            return self._download_into(partial, repo, file) if partial is not None else None

    def _download_into(self, partial: Partial, repo: LockedRepo, file: LockedFile) -> StoredBlob:
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
            if blob := self._download_by_xet(url, headers, partial, repo, file):
                return blob
            address = Address(url=url, headers=headers)
            transfer = self._transfer(address, partial, file, self.crew)
            digests = transfer.run()
            if fault := transfer.fault(digests):
                self.on_note(f"{repo.repo_id}: {file.path} arrived damaged ({fault}); fetching it once more")
                self._forget(partial)
                # In order: something in between may not be able to do ranges.
                transfer = self._transfer(address, partial, file, None)
                digests = transfer.run()
                if fault := transfer.fault(digests):
                    self._forget(partial)
                    raise _mismatch_error(repo, file, fault)
        partial.cut_to_front()
        return self.store.adopt(partial.path, StoredBlob.of(file.etag, digests))

    def _transfer(self, address: Address, partial: Partial, file: LockedFile, crew: Crew | None) -> Transfer:
        return Transfer(address, partial, file, self.control, crew=crew)

    def _forget(self, partial: Partial) -> None:
        self.control.on_progress(-partial.size_bytes)
        partial.clear()

    def _download_by_xet(
        self, url: str, headers: dict[str, str], partial: Partial, repo: LockedRepo, file: LockedFile
    ) -> StoredBlob | None:
        """Fetch a file with hf_xet; return None if it must come over HTTP."""
        # Only LFS files are in Xet storage. A file that was begun over HTTP is continued over HTTP.
        if file.lfs_sha256 is None or partial.size_bytes or not self.xet.may_have(repo.repo_id):
            return None
        metadata = within(
            lambda: get_hf_file_metadata(url, headers=headers, token=self.token, endpoint=self.endpoint),
            host=host_of(url),
        )
        if metadata.xet_file_data is None:
            self.xet.note_plain(repo.repo_id)
            return None
        with self.store.work_folder() as folder:
            target = folder / file.etag
            try:
                has_arrived = self.xet.download(
                    metadata.xet_file_data,
                    target,
                    headers,
                    size_bytes=file.size_bytes,
                    stop=self.control.stop,
                    on_progress=self.control.on_progress,
                    on_received=self.control.on_received,
                )
            except XetFailedError as error:
                if self.xet.give_up():
                    self.on_note(f"Xet storage {error}; fetching over HTTP instead")
                return None
            if not has_arrived:
                raise StoppedError
            digests = hash_file(target, *algorithms(file))
            if fault := mismatch(file, digests):
                self.control.on_progress(-file.size_bytes)
                self.on_note(
                    f"{repo.repo_id}: {file.path} arrived damaged from Xet storage ({fault}); fetching it over HTTP"
                )
                return None
            return self.store.adopt(target, StoredBlob.of(file.etag, digests))


def _mismatch_error(repo: LockedRepo, file: LockedFile, fault: str) -> IntegrityError:
    return IntegrityError(
        f"{repo.repo_id}: {file.path} of commit {repo.commit}: {fault}, twice in a row",
        hint="a proxy or mirror may be changing or caching it: try again, or without the proxy. If the lock was "
        "edited or damaged, write it again with `bundle lock --upgrade`",
    )
