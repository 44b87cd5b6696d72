"""Which files below a folder belong to a repo, and how to open one of them.

Rule book:

* served are regular files whose real place is below the root that the user named; a link that leaves it is not
  followed, whatever it points to;
* names that start with a dot are not part of a repo (`.git`, `.cache`, `.env`, half-written files), but for git's
  and the Hub's own settings; nor are names under which Hugging Face libraries, ssh and others keep secrets;
* a file is opened at the place that was listed, without following a link, and must be the very file that was
  hashed (`FileStamp`): nothing can be swapped in between.
"""

from __future__ import annotations

import functools
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import FormatError
from bundler.files.paths import check_relative_path
from bundler.serve.source import ContentChangedError

SERVED_DOTFILES = frozenset({".gitattributes", ".gitignore", ".huggingface.yaml"})
# `token` and `stored_tokens` lie at the root of HF_HOME; one wrong PATH must not publish them.
SECRETS = frozenset(
    {"token", "stored_tokens", "credentials", "netrc", "_netrc", "htpasswd"}
    | {f"id_{kind}" for kind in ("rsa", "dsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk")}
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileStamp:
    """What tells one state of a file from another without reading it."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    # The kernel's own note of the last change, which nobody can set back.
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True)
class DiskFile:
    """A file that may be served.

    Attributes:
        path: POSIX path in the repo.
        location: Where it really lies, links resolved; a string, since a Path for each of 100,000 files takes seconds.
        stamp: Its state when it was listed.
    """

    path: str
    location: str
    stamp: FileStamp

    def open(self) -> FileContent:
        """Open the listed file.

        Raises:
            ContentChangedError: It is gone, or was changed or replaced since.
        """
        try:
            descriptor = os.open(self.location, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ContentChangedError(f"{self.path}: cannot be read any more ({error.strerror})") from error
        if FileStamp.of(os.fstat(descriptor)) != self.stamp:
            os.close(descriptor)
            raise ContentChangedError(f"{self.path}: changed on disk since its commit was computed")
        return FileContent(descriptor, self.stamp)


class FileContent:
    """The bytes of an open file; safe to read from several threads.

    Args:
        descriptor: Open for reading; closed by `close`.
        stamp: Its state, as of which it is served.
    """

    def __init__(self, descriptor: int, stamp: FileStamp) -> None:
        self._descriptor = descriptor
        self._stamp = stamp

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from `offset`; fewer when the file ends there, none once it was written to."""
        parts = []
        while size_bytes > 0 and (part := os.pread(self._descriptor, size_bytes, offset)):
            parts.append(part)
            offset += len(part)
            size_bytes -= len(part)
        if not self._is_unchanged():
            return b""
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, room: memoryview, offset: int, *, may_wait: bool) -> int | None:
        """Fill `room` as far as it goes (see `DirectContent`)."""
        flags = 0 if may_wait else getattr(os, "RWF_NOWAIT", None)
        if flags is None:
            return None
        try:
            count = os.preadv(self._descriptor, [room], offset, flags)
        except OSError:
            # Without waiting: it is not in memory, or the file system cannot say.
            if may_wait:
                raise
            return None
        return count if self._is_unchanged() else 0

    def _is_unchanged(self) -> bool:
        return FileStamp.of(os.fstat(self._descriptor)) == self._stamp

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def is_served_name(name: str) -> bool:
    """Tell whether a file or folder of this name can be part of a repo."""
    return name not in SECRETS and (not name.startswith(".") or name in SERVED_DOTFILES)


def is_real_folder(path: Path, *, root: Path) -> bool:
    """Tell whether `path`, a name below `root`, is a folder with no link on the way to it."""
    while path != root:
        if path.is_symlink() or not path.is_dir():
            return False
        path = path.parent
    return True


def list_repo_files(folder: Path, *, root: Path) -> dict[str, DiskFile]:
    """Return what may be served below `folder`, by path in the repo, sorted.

    Args:
        folder: The repo's files; a real folder below `root`.
        root: The resolved folder that no served file may lie outside of.
    """
    found = {file.path: file for file in _walk(folder, "", root)}
    return dict(sorted(found.items()))


def _walk(folder: Path, prefix: str, root: Path) -> Iterator[DiskFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if not is_served_name(entry.name):
                continue
            try:
                check_relative_path(path)
            except FormatError as error:
                _warn(error.message)
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{path}/", root)
            elif file := _disk_file(path, entry, root):
                yield file


@functools.lru_cache(maxsize=1000)
def _warn(reason: str) -> None:
    # Cached, since folders are listed again and again: each thing is said once.
    _log.warning("not served: %s", reason)


def _disk_file(path: str, entry: os.DirEntry[str], root: Path) -> DiskFile | None:
    location = entry.path
    try:
        if entry.is_symlink():
            location = os.path.realpath(entry.path)
            if not location.startswith(f"{root}/") or not is_served_name(location.rpartition("/")[2]):
                _warn(f"{entry.path} is a link that leaves {root}, or leads to a private name")
                return None
            status = os.lstat(location)
        else:
            status = entry.stat(follow_symlinks=False)
    except OSError as error:
        _warn(f"{entry.path} ({error.strerror})")
        return None
    if not stat.S_ISREG(status.st_mode):
        # Links to folders are left out as well: they can be circular, and git repos have none that clients follow.
        _warn(f"{entry.path} is not a regular file")
        return None
    return DiskFile(path, location, FileStamp.of(status))
