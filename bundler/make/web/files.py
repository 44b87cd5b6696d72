"""Bring files of other hosts into the store, where a lock pins them and the store has them no more.

When a manifest is resolved they are taken anyway (`bundler.hub.web.resolve`), and kept; so this is for a lock that came
from another machine, or a store that was cleared.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bundler.errors import IntegrityError
from bundler.files.digest import Digests
from bundler.hub.connection.crew import Crew
from bundler.hub.web.answer import HEADERS, open_file, web_errors
from bundler.hub.web.download import download
from bundler.hub.web.resolve import Keeper, unpack_files
from bundler.make.download.request import Address, Control
from bundler.make.download.transfer import Transfer
from bundler.make.store import Store, StoredBlob
from bundler.plan.lock import LockedFile, LockedRepo, Origin


def make_keeper(store: Store) -> Keeper:
    """Return what keeps files in a store."""

    def keep(path: Path, digests: Digests) -> None:
        assert digests.sha256
        store.adopt(path, StoredBlob.of(digests.sha256, digests))

    return Keeper(store.work_folder, keep)


@dataclass(frozen=True, kw_only=True)
class WebFiles:
    """Downloads files of other hosts; no token goes along.

    Attributes:
        store: Where the content goes.
        control: As `Downloader` has it.
        crew: As `Downloader` has it.
    """

    store: Store
    control: Control = field(default_factory=Control)
    crew: Crew | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def download(self, repo: LockedRepo, file: LockedFile) -> StoredBlob | None:
        """Bring one file into the store; of an archive all of them.

        Returns:
            The stored blob; None if it was stored meanwhile, and must be verified.

        Raises:
            IntegrityError: The host sends something else than the lock names.
            HubError: It refused.
            NetworkError: It cannot be reached.
            StoppedError: `stop` was set.
        """
        assert repo.origin is not None
        if not repo.origin.unpacked:
            return self._download_plain(repo.origin, file)
        with self._turn:
            if self.store.find(file.etag) is None:
                self._download_archive(repo, repo.origin, file)
        return None

    def _download_plain(self, origin: Origin, file: LockedFile) -> StoredBlob | None:
        with self.store.partial(file.etag, file.size_bytes) as partial_file:
            if partial_file is None:
                return None
            transfer = Transfer(
                # The lock has its hash, so that nobody can change it on its way.
                Address(url=origin.url, headers=HEADERS, open_url=partial(open_file, plain_http=True)),
                partial_file,
                file,
                self.control,
                crew=self.crew,
            )
            with web_errors(origin.url):
                digests = transfer.run()
            if fault := transfer.fault(digests):
                self.control.on_progress(-partial_file.size_bytes)
                partial_file.clear()
                raise _changed(origin, fault)
            partial_file.cut_to_front()
            return self.store.adopt(partial_file.path, StoredBlob.of(file.etag, digests))

    def _download_archive(self, repo: LockedRepo, origin: Origin, wanted: LockedFile) -> None:
        destination = "/".join(wanted.path.split("/")[:3])
        with self.store.work_folder() as folder:
            digests = download(origin.url, folder / "file", plain_http=True)
            self.control.on_received(digests.size_bytes)
            found = unpack_files(folder / "file", folder, destination, origin.url, make_keeper(self.store))
        there = {file.path: file.etag for file in found}
        for file in repo.files:
            if there.get(file.path) != file.etag:
                raise _changed(origin, f"{file.path} is {'another' if file.path in there else 'not in it'}")


def _changed(origin: Origin, fault: str) -> IntegrityError:
    return IntegrityError(
        f"{origin.url}: {fault}",
        hint="the file has changed since it was locked: `bundle fetch --upgrade` takes it as it is now",
    )
