"""Take files from an HF cache into the store, instead of downloading them again.

Rule book:

* a cache is only looked into; content is found by its etag, or by its name in a snapshot where the cache has no links;
* every file is hashed and compared with the lock like one that was downloaded: what a cache says of it does not count;
* what does not match is downloaded, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundler.files.digest import hash_file
from bundler.make.cache.clone import clone_file
from bundler.make.store import Store, StoredBlob
from bundler.plan.lock import LockedFile, LockedRepo
from bundler.plan.names import repo_folder


@dataclass(frozen=True)
class HubCache:
    """The folder of an HF cache that has the repos.

    Attributes:
        hub: It, as HF_HUB_CACHE names it.
    """

    hub: Path

    @classmethod
    def open(cls, folder: Path | None) -> HubCache:
        """Open the cache in a folder as HF_HOME names it; None for the one that the client uses.

        The folder of the repos itself is taken, too. Nothing need be there.
        """
        if folder is None:
            from huggingface_hub import constants

            return cls(Path(constants.HF_HUB_CACHE))
        below = folder / "hub"
        return cls(below if below.is_dir() else folder)

    def find(self, repo: LockedRepo, file: LockedFile) -> Path | None:
        """Return the file in the cache that should have this content; None if there is none of its length."""
        for name in (repo.repo_id, *repo.aliases):
            folder = self.hub / repo_folder(name, repo.repo_type)
            for path in (folder / "blobs" / file.etag, folder / "snapshots" / repo.commit / file.path):
                try:
                    if path.is_file() and path.stat().st_size == file.size_bytes:
                        return path
                except OSError:
                    continue  # no permission to look there
        return None

    def take(
        self, repo: LockedRepo, file: LockedFile, store: Store, on_note: Callable[[str], None]
    ) -> StoredBlob | None:
        """Bring a file from the cache into the store; return None if it is not there, or not what it should be."""
        from bundler.make.download.transfer import algorithms, mismatch

        source = self.find(repo, file)
        if source is None:
            return None
        with store.work_folder() as folder:
            target = folder / file.etag
            try:
                clone_file(source, target)
            except OSError as error:
                on_note(f"{source} cannot be read ({error.strerror}); downloading it")
                return None
            digests = hash_file(target, *algorithms(file))
            if fault := mismatch(file, digests):
                on_note(f"{source} is damaged ({fault}); downloading it")
                return None
            return store.adopt(target, StoredBlob.of(file.etag, digests))
