"""Bring the files of a lock into the store: download what is missing, hash again what is there.

Rule book:

* each content is fetched once, even if several files or repos have it;
* a file that is in the store, or in an HF cache, and matches its digest is not downloaded again;
* the first failure ends the fetch; everything that has arrived is kept for the next run;
* no download begins unless the disk has room for all.

Afterwards `bundler.make.proof` proves that the files load offline, and `bundler.make.pack` makes the bundle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bundler.errors import LockError
from bundler.files.space import check_room, report_full_disk
from bundler.make.cache.hub_cache import HubCache
from bundler.make.observer import Observer
from bundler.make.room import StageBytes, count_bytes, plan
from bundler.make.store import Store, StoredBlob
from bundler.plan.layout import Blob
from bundler.plan.lock import Lock, LockedFile, LockedRepo
from bundler.text.wording import size

# Connections. Small files wait for answers most of the time, and a distant server sends each connection so much.
DEFAULT_JOBS = 32


@dataclass(frozen=True, kw_only=True)
class FetchResult:
    """What a fetch did.

    Attributes:
        lock: The lock with our own digests of every file.
        files: Number of distinct files.
        size_bytes: Sum of their sizes.
        downloaded_files: Number of files that were not in the store.
        received_bytes: Number of bytes that came over the network.
        cached_files: Number of files that were taken from the HF cache.
    """

    lock: Lock
    files: int
    size_bytes: int
    downloaded_files: int
    received_bytes: int
    cached_files: int = 0


def _room_needed(counts: StageBytes, store: Store, bundle_folder: Path | None) -> dict[Path, int]:
    needs = {store.root: counts.download + counts.staging}
    if bundle_folder is not None:
        needs[bundle_folder] = needs.get(bundle_folder, 0) + counts.bundle
    return needs


def fetch(
    lock: Lock,
    store: Store,
    *,
    jobs: int = DEFAULT_JOBS,
    bundle_folder: Path | None = None,
    cache: HubCache | None = None,
    endpoint: str | None = None,
    token: str | bool | None = None,
    observer: Observer | None = None,
    on_stored: Callable[[StoredBlob], None] = lambda stored: None,
) -> FetchResult:
    """Bring every file of `lock` into `store`, verified.

    Args:
        lock: The lock; files must match digests that it already has.
        store: The store to bring them into.
        jobs: Over how many connections to download.
        bundle_folder: Folder in which the bundle will be written, to check its free space now.
        cache: An HF cache to take files from instead.
        endpoint: The Hub's address; None for HF_ENDPOINT or huggingface.co.
        token: As in huggingface_hub: None for that of the environment or the login, False for none.
        observer: Gets progress and notes.
        on_stored: Called for each content that is in the store, verified; from several threads.

    Raises:
        SpaceError: There is not enough free space.
        IntegrityError: The Hub sends other content than it published, or than the lock names.
        HubError: The Hub refused.
        NetworkError: The Hub cannot be reached.
        LockError: The lock has two sizes or digests for one etag.
    """
    plans = plan(lock, store, cache)
    check_room(
        _room_needed(count_bytes(lock, plans), store, bundle_folder),
        files={store.root: sum(item.new_files for item in plans)},
    )
    wanted = _list_contents(lock)
    total = sum(file.size_bytes for _, file in wanted)
    missing = sum(item.missing_bytes for item in plans)
    cached = sum(item.cached_bytes for item in plans)
    watcher = observer or Observer()
    where = f", {size(cached)} in {cache.hub}" if cache and cached else ""
    watcher.begin(
        "fetch",
        f"fetching {lock.name}: {size(missing)} to download{where}, {size(total - missing - cached)} staged in "
        f"{store.root}",
        total,
    )
    run = _Run(store, cache, watcher, endpoint, token, jobs, on_stored)
    run.fetch_all(wanted)
    return FetchResult(
        lock=_complete(lock, run.take_done()),
        files=len(wanted),
        size_bytes=total,
        downloaded_files=run.downloaded_files,
        received_bytes=run.received_bytes,
        cached_files=run.cached_files,
    )


def blob_path(store: Store) -> Callable[[Blob], Path]:
    """Return a function from a blob to the path of its content in `store`, for `bundler.make.pack` and the proof."""
    return lambda blob: store.path(blob.etag)


def _list_contents(lock: Lock) -> list[tuple[LockedRepo, LockedFile]]:
    """Return each content once, the largest first, so that no large one is left for the end."""
    by_etag: dict[str, tuple[LockedRepo, LockedFile]] = {}
    for repo in lock.repos:
        for file in repo.files:
            _, known = by_etag.setdefault(file.etag, (repo, file))
            # A complete entry and a new one for the same content agree if all digests that both have are equal.
            if known.size_bytes != file.size_bytes or len({known.sha256, file.sha256} - {None}) > 1:
                raise LockError(
                    f"{repo.repo_id}: {file.path} and {known.path} have one etag, {file.etag}, and two contents",
                    hint="write the lock again with `bundle fetch --upgrade`",
                )
            if known.sha256 is None and file.sha256 is not None:
                by_etag[file.etag] = (repo, file)
    return sorted(by_etag.values(), key=lambda item: item[1].size_bytes, reverse=True)


def _complete(lock: Lock, blobs: Mapping[str, StoredBlob]) -> Lock:
    def complete(file: LockedFile) -> LockedFile:
        blob = blobs[file.etag]
        if (file.sha256, file.blake3) == (blob.sha256, blob.blake3):
            return file
        return replace(file, sha256=blob.sha256, blake3=blob.blake3)

    return lock.with_repos(
        tuple(replace(repo, files=tuple(complete(file) for file in repo.files)) for repo in lock.repos)
    )


class _Run:
    """The worker threads of a fetch, and their results."""

    def __init__(
        self,
        store: Store,
        cache: HubCache | None,
        observer: Observer,
        endpoint: str | None,
        token: str | bool | None,
        jobs: int,
        on_stored: Callable[[StoredBlob], None],
    ) -> None:
        # Imported here because the client takes long to import, and `plan` does not need it.
        from bundler.hub.connection.crew import Crew
        from bundler.make.download.download import Downloader
        from bundler.make.download.request import Control
        from bundler.make.web.files import WebFiles

        self._store = store
        self._cache = cache
        self._observer = observer
        self._on_stored = on_stored
        self._lock = threading.Lock()
        control = Control(on_progress=observer.progress, on_received=self._count)
        self._crew = Crew(jobs, control.stop)
        self._done: dict[str, StoredBlob] = {}
        self.downloaded_files = 0
        self.received_bytes = 0
        self.cached_files = 0
        self._downloader = Downloader(
            store=store, endpoint=endpoint, token=token, control=control, on_note=observer.note, crew=self._crew
        )
        self._web_files = WebFiles(store=store, control=control, crew=self._crew)

    def fetch_all(self, wanted: list[tuple[LockedRepo, LockedFile]]) -> None:
        """Fetch all of `wanted`.

        Raises:
            BaseException: The first failure; what has arrived is kept.
        """
        self._crew.run([partial(self._fetch_one, repo, file) for repo, file in wanted])

    def take_done(self) -> dict[str, StoredBlob]:
        """Return what was fetched, by etag, and forget it."""
        # Tens of megabytes of 100,000 files, and this is a circle of objects, which stays for a while.
        done, self._done = self._done, {}
        return done

    def _fetch_one(self, repo: LockedRepo, file: LockedFile) -> None:
        downloaded = False
        while (blob := self._find_staged(file)) is None:
            with report_full_disk(
                self._store.root,
                f"{self._store.root}: the file system filled up at {repo.repo_id}: {file.path}",
                hint="what has arrived is kept: make room and run the same command again",
            ):
                if self._cache and (blob := self._cache.take(repo, file, self._store, self._observer.note)):
                    with self._lock:
                        self.cached_files += 1
                    break
                blob = (self._web_files if repo.origin else self._downloader).download(repo, file)
            if blob is not None:
                downloaded = True
                break
        if not downloaded:
            self._observer.progress(file.size_bytes)
        with self._lock:
            self._done[file.etag] = blob
            self.downloaded_files += downloaded
        self._on_stored(blob)
        self._observer.file_done(repo, file, downloaded=downloaded)

    def _find_staged(self, file: LockedFile) -> StoredBlob | None:
        """Return the blob for `file` if it is in the store and its bytes, hashed now, match the lock; else None."""
        from bundler.make.download.transfer import mismatch

        blob = self._store.find_verified(file.etag)
        # A blob that matches its name but not the lock means that the lock is wrong; the download will report that.
        return None if blob is None or mismatch(file, blob) is not None else blob

    def _count(self, received: int) -> None:
        with self._lock:
            self.received_bytes += received
