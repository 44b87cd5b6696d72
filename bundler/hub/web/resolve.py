"""Resolve a manifest's files of other hosts: take each once, to find its length and hash, and pin these.

Rule book:

* what the previous lock pins is kept, and nothing is asked, unless `upgrade` is set or the manifest's `sha256` differs;
* a file that is not what the manifest's `sha256` says is refused;
* a zip of a repository for torch.hub is unpacked here, and its files are pinned one by one: GitHub packs the same files
  in other bytes now and then;
* what was taken is given to the caller to keep, so that a fetch does not take it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bundler.errors import BundleError, IntegrityError
from bundler.files.digest import Digests, hash_file
from bundler.files.leftovers import make_temporary_folder
from bundler.hub.selection.pickle_names import is_pickle
from bundler.hub.web.archive import unpack
from bundler.hub.web.download import download
from bundler.plan.file_entry import FileEntry
from bundler.plan.git_objects import commit_id, lfs_pointer_id
from bundler.plan.lock import Lock, LockedFile, LockedRepo, Origin
from bundler.plan.names import DEFAULT_REVISION
from bundler.text.wording import size

Note = Callable[[str], None]


@dataclass(frozen=True)
class Keeper:
    """Where what was taken is kept.

    Attributes:
        open_folder: Makes a folder on the same disk, and removes it afterwards.
        keep: Takes a file from there; its name there is gone.
    """

    open_folder: Callable[[], AbstractContextManager[Path]]
    keep: Callable[[Path, Digests], object]


def resolve_files(
    entries: Iterable[FileEntry],
    *,
    previous: Lock | None = None,
    upgrade: bool = False,
    keeper: Keeper | None = None,
    on_note: Note = lambda note: None,
) -> tuple[LockedRepo, ...]:
    """Resolve every file.

    Args:
        entries: The files.
        previous: The lock so far.
        upgrade: Ask for all again.
        keeper: Keeps what is taken; without, it is not kept.
        on_note: Told of each file that is taken.

    Raises:
        HubError: A host refused.
        NetworkError: It cannot be reached.
        IntegrityError: A file is not what the manifest says.
        FormatError: A zip file is none, or is refused.
    """
    known = {(repo.repo_id, _place(repo)): repo for repo in (previous.repos if previous else ()) if repo.origin}
    found = []
    for entry in entries:
        old = known.get((entry.name, entry.destination))
        is_same = old is not None and old.origin is not None and entry.sha256 in (None, old.origin.sha256)
        if old is not None and is_same and not upgrade:
            found.append(old)
            continue
        try:
            found.append(_take(entry, keeper))
        except BundleError as error:
            error.message = f"{entry.place}: {error.message}" if entry.place else error.message
            raise
        taken = found[-1].origin
        assert taken is not None
        on_note(f"{entry.label}: {size(taken.size_bytes)}, sha256 {taken.sha256}")
    return tuple(found)


def _place(repo: LockedRepo) -> str:
    """Return the destination of a locked file, as `FileEntry.destination` gives it."""
    path = repo.files[0].path if repo.files else ""
    return "/".join(path.split("/")[:3]) if repo.origin and repo.origin.unpacked else path


def _take(entry: FileEntry, keeper: Keeper | None) -> LockedRepo:
    is_plain = entry.torch_repo is None
    open_folder = keeper.open_folder if keeper else partial(make_temporary_folder, "bundle-lock-")
    with open_folder() as folder:
        target = folder / "file" if keeper or not is_plain else None
        digests = download(entry.url, target, plain_http=entry.sha256 is not None)
        assert digests.sha256
        if entry.sha256 not in (None, digests.sha256):
            raise IntegrityError(
                f"{entry.url}: expected sha256 {entry.sha256} (in the manifest), found {digests.sha256}",
                hint="find out which of the two is right before you change the manifest",
            )
        if is_plain:
            files = [_make_file(entry.destination, digests)]
            if keeper and target:
                keeper.keep(target, digests)
        else:
            assert target is not None
            files = unpack_files(target, folder, entry.destination, entry.url, keeper)
    return LockedRepo(
        kind="file",
        repo_id=entry.name,
        revision=DEFAULT_REVISION,
        commit=commit_id({file.path: file.blob_id for file in files}),
        # Who lists a repo for torch.hub wants its Python run, and who lists a checkpoint wants it loaded.
        trust_remote_code=not is_plain,
        allow_pickle=any(is_pickle(file.path) for file in files),
        origin=Origin(
            url=entry.url,
            into=entry.into,
            size_bytes=digests.size_bytes,
            sha256=digests.sha256,
            unpacked=not is_plain,
        ),
        files=tuple(sorted(files, key=lambda file: file.path)),
    )


def unpack_files(
    archive: Path, folder: Path, destination: str, url: str, keeper: Keeper | None
) -> list[LockedFile]:
    """Return the files of an archive as a lock has them.

    Args:
        archive: The zip file.
        folder: For content that is being looked at.
        destination: The folder that they go to.
        url: Where it came from.
        keeper: Keeps them, unless there is none.
    """
    files = []
    for path, place in unpack(archive, folder, url):
        digests = hash_file(place, "sha256", "blake3")
        files.append(_make_file(f"{destination}/{path}", digests))
        if keeper:
            keeper.keep(place, digests)
    return files


def _make_file(path: str, digests: Digests) -> LockedFile:
    """Return a file as an LFS file of the Hub is: named by its SHA-256, with the git id of a pointer to it."""
    assert digests.sha256 and digests.blake3
    return LockedFile(
        path=path,
        size_bytes=digests.size_bytes,
        blob_id=lfs_pointer_id(digests.sha256, digests.size_bytes),
        lfs_sha256=digests.sha256,
        sha256=digests.sha256,
        blake3=digests.blake3,
    )
