"""The staging store: verified blobs by etag, and partial downloads that outlive a killed process.

    blobs/<first two>/<etag>         content, under the name that the Hub gives it
    blobs/<first two>/<etag>.json    its size and digests, as they were when the content was checked
    partial/<etag>.<owner>           a download that is not finished, or not checked
    prepared/<key>.json              which stored blobs make up a prepared dataset (`bundler.make.proof.prepare`)
    packed/<key>.json                the digest of a bundle that was packed from here (`bundler.make.pack_once`)
    work/                            caches for a proof, removed when it ends

Rule book:

* a blob appears under its final name only after its digests were compared with its etag; its record is written
  first, so a blob without one is damaged or unknown, and not used;
* a blob that was stored by an earlier run is used only after its BLAKE3 was taken again (`verified`);
* a partial download belongs to the process that renamed it to its own name. rename(2) lets one process win
  everywhere; flock(2), which some cluster file systems ignore, only speeds up noticing that an owner is gone.

The store never asks a network, and knows nothing of repos or locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

from bundler.errors import SpaceError
from bundler.files.digest import Digests, hash_file, sha256_bytes
from bundler.files.paths import atomic_write, remove_leftovers

RecordKind = Literal["prepared", "proven", "packed"]

_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

# A partial download of another machine is taken over when it has not grown for this long: longer than any retry of
# the client, shorter than a person's patience.
ORPHAN_SECONDS = 600.0
# A partial download that nobody continued for this long belongs to a commit that nobody wants any more.
FORGOTTEN_SECONDS = 30 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class StoredBlob:
    """What is known of a blob in the store.

    Attributes:
        etag: SHA-256 of an LFS file or a prepared file, git blob SHA-1 of any other.
        size_bytes: Length of the content.
        sha256: SHA-256 of the content.
        blake3: BLAKE3 of the content.
        git_sha1: Git blob SHA-1 of the content, or None where the etag is a SHA-256.
    """

    etag: str
    size_bytes: int
    sha256: str
    blake3: str
    git_sha1: str | None = None

    @classmethod
    def of(cls, etag: str, digests: Digests) -> StoredBlob:
        """Make the record of content with these digests."""
        assert digests.sha256 and digests.blake3, "a stored blob has both digests"
        return cls(
            etag=etag,
            size_bytes=digests.size_bytes,
            sha256=digests.sha256,
            blake3=digests.blake3,
            git_sha1=digests.git_sha1,
        )

    @property
    def is_named_by_content(self) -> bool:
        """Whether the etag is the digest that it claims to be."""
        return self.etag == (self.sha256 if len(self.etag) == 64 else self.git_sha1)


class Partial:
    """A download in progress: a file that this process owns until it is finished or let go.

    Attributes:
        path: Where the bytes are.
        file: The open file, unbuffered: what was written is kept when the process is killed.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self.file = file

    @property
    def size_bytes(self) -> int:
        """How much is there already."""
        return os.fstat(self.file.fileno()).st_size

    def write(self, block: bytes) -> None:
        """Append `block`, all of it: a raw file may take less at a time."""
        rest = memoryview(block)
        while rest:
            rest = rest[self.file.write(rest) :]

    def clear(self) -> None:
        """Throw away what is there and begin again."""
        self.file.seek(0)
        self.file.truncate()


class Store:
    """A folder of verified blobs (see the module's text).

    Args:
        root: The folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._owner = f"{_machine()}-{os.getpid()}-{_start_of(os.getpid())}"
        for name in ("blobs", "partial", "prepared", "proven", "packed", "work"):
            (root / name).mkdir(parents=True, exist_ok=True)

    @classmethod
    def default_root(cls, option: Path | None = None) -> Path:
        """Return the folder to use: `option`, BUNDLE_CACHE, XDG_CACHE_HOME/bundle, `~/.cache/bundle`."""
        if option is not None:
            return option.expanduser().absolute()
        if chosen := os.environ.get("BUNDLE_CACHE"):
            return Path(chosen).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "bundle"

    # Blobs

    def path(self, etag: str) -> Path:
        """Return where the blob `etag` is, or would be.

        Raises:
            ValueError: `etag` is not 40 or 64 lower-case hex digits.
        """
        if not _ETAG.fullmatch(etag):
            raise ValueError(f"expected an etag of 40 or 64 hex digits, found {etag[:80]!r}")
        return self.root / "blobs" / etag[:2] / etag

    def open(self, etag: str) -> BinaryIO:
        """Open a blob for reading; the caller closes it.

        Raises:
            FileNotFoundError: There is no such blob.
        """
        return self.path(etag).open("rb")

    def find(self, etag: str) -> StoredBlob | None:
        """Return what is recorded of a blob, without reading its content; None if it is not whole."""
        path = self.path(etag)
        try:
            record = StoredBlob(**json.loads(_record_path(path).read_bytes()))
            size_bytes = path.stat().st_size
        except (OSError, ValueError, TypeError):
            return None
        if record.etag != etag or record.size_bytes != size_bytes or not record.is_named_by_content:
            return None
        return record

    def verified(self, etag: str) -> StoredBlob | None:
        """Return a blob after hashing it, or None.

        The record of a damaged one is withdrawn, so that nobody uses it, and its content is replaced by the next
        download. It is not deleted here: another process may have replaced it a moment ago, and count on it.
        """
        record = self.find(etag)
        if record is not None:
            try:
                if hash_file(self.path(etag), "blake3").blake3 == record.blake3:
                    return record
            except OSError:
                # A read error is damage as well: the content is fetched again to other sectors.
                pass
            _record_path(self.path(etag)).unlink(missing_ok=True)
        return None

    def adopt(self, path: Path, blob: StoredBlob) -> StoredBlob:
        """Move a checked file on this file system to its final name.

        Args:
            path: The file; gone afterwards.
            blob: Its digests, taken from exactly these bytes.

        Raises:
            ValueError: The etag is not the digest of the content: storing it would poison later runs.
        """
        if not blob.is_named_by_content:
            raise ValueError(f"blob {blob.etag} does not have the content that its name promises")
        final = self.path(blob.etag)
        atomic_write(_record_path(final), json.dumps(asdict(blob)).encode())
        # Not synced to the disk: what a power failure leaves of it is found by its digest, like any other damage.
        path.replace(final)
        return blob

    # Partial downloads

    @contextlib.contextmanager
    def partial(self, etag: str, *, patience_seconds: float = 60.0) -> Iterator[Partial | None]:
        """Own the partial download of `etag`: a dead process's one is continued, else a new one begins.

        While a living process on this machine downloads the same content, this waits for it; when that one does
        not get on for `patience_seconds`, both download.

        Yields:
            The file, or None when another process has stored the blob meanwhile. What is not adopted by the end
            of the block stays, for the next run.
        """
        self.path(etag)
        partial = self._claim(etag, patience_seconds)
        if partial is None:
            yield None
            return
        try:
            yield partial
        finally:
            partial.file.close()
            with contextlib.suppress(FileNotFoundError):
                if partial.path.stat().st_size == 0:
                    partial.path.unlink()

    def partial_bytes(self, etag: str) -> int:
        """Return how much of `etag` an earlier run left behind."""
        return max((size for _, size, _ in self._partials(etag)), default=0)

    def _partials(self, etag: str) -> list[tuple[Path, int, float]]:
        found = []
        for path in (self.root / "partial").glob(f"{etag}.*"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append((path, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda item: item[1], reverse=True)

    def _claim(self, etag: str, patience_seconds: float) -> Partial | None:
        grown_at, last = time.monotonic(), -1
        while True:
            if last >= 0 and self.find(etag) is not None:
                return None
            waiting_for = -1
            for path, size, mtime in self._partials(etag):
                if partial := self._take_over(path, etag, mtime):
                    return partial
                waiting_for = max(waiting_for, size)
            if waiting_for > last:
                grown_at, last = time.monotonic(), waiting_for
            if waiting_for < 0 or time.monotonic() - grown_at > patience_seconds:
                own = self._own_name(etag)
                file = _open_locked(own, os.O_CREAT | os.O_EXCL)
                assert file is not None, "a fresh name cannot be locked by another process"
                return Partial(own, file)
            time.sleep(0.1)

    def _own_name(self, etag: str) -> Path:
        return self.root / "partial" / f"{etag}.{self._owner}-{secrets.token_hex(4)}"

    def _take_over(self, path: Path, etag: str, mtime: float) -> Partial | None:
        """Rename a dead owner's partial download to ours and open it; None if the owner may be alive."""
        if _may_be_alive(path, mtime, ORPHAN_SECONDS):
            return None
        file = _open_locked(path)
        if file is None:
            return None
        own = self._own_name(etag)
        try:
            path.rename(own)
        except FileNotFoundError:
            file.close()
            return None
        file.seek(0, os.SEEK_END)
        return Partial(own, file)

    # Records, work folders, room

    def record(self, kind: RecordKind, key: str) -> Any:
        """Return what `keep_record` kept under `key`, or None."""
        try:
            return json.loads(self._kept_path(kind, key).read_bytes())
        except (OSError, ValueError):
            return None

    def keep_record(self, kind: RecordKind, key: str, value: Any) -> None:
        """Keep a JSON value under `key`, any text."""
        atomic_write(self._kept_path(kind, key), json.dumps(value, indent=1).encode())

    def _kept_path(self, kind: RecordKind, key: str) -> Path:
        return self.root / kind / f"{sha256_bytes(key.encode())}.json"

    @contextlib.contextmanager
    def work_folder(self) -> Iterator[Path]:
        """Make an empty folder on the store's file system (so that hard links work) and remove it at the end."""
        work = self.root / "work"
        for stale in work.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if not _may_be_alive(stale, stale.stat().st_mtime, 24 * 3600):
                    shutil.rmtree(stale, ignore_errors=True)
        folder = work / f"w.{self._owner}-{secrets.token_hex(4)}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed runs left behind and no run will ask for again; called before this process writes."""
        now = time.time()
        for name in ("blobs", "prepared", "proven", "packed"):
            remove_leftovers(self.root / name, now=now)
        for path in (self.root / "blobs").glob("??/*"):
            if path.suffix != ".json" and not _record_path(path).exists():
                with contextlib.suppress(FileNotFoundError):
                    if now - path.stat().st_mtime > ORPHAN_SECONDS:
                        path.unlink()
        for path in (self.root / "partial").iterdir():
            with contextlib.suppress(FileNotFoundError):
                mtime = path.stat().st_mtime
                if now - mtime > FORGOTTEN_SECONDS and not _may_be_alive(path, mtime, FORGOTTEN_SECONDS):
                    path.unlink()


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _machine() -> str:
    """Return a word for this machine, the same for all its processes, safe in a file name."""
    return sha256_bytes(socket.gethostname().encode())[:12]


def _start_of(pid: int) -> str:
    """Return when a process started (a number may be used again for another), or "0" where that is unknown."""
    try:
        # proc_pid_stat(5): field 22, counted after the command's closing parenthesis, where field 3 begins.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"


def _may_be_alive(path: Path, mtime: float, orphan_seconds: float) -> bool:
    """Tell whether the process whose mark is at the end of `path`'s name may still be using it."""
    machine, pid_text, start, *_ = [*path.name.rpartition(".")[2].split("-"), "", "", ""]
    if machine != _machine():
        return time.time() - mtime < orphan_seconds
    try:
        pid = int(pid_text)
        os.kill(pid, 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return _start_of(pid) in (start, "0")


def _open_locked(path: Path, flags: int = 0) -> FileIO | None:
    """Open a file for reading and writing with an exclusive lock; None if it is gone or somebody has the lock."""
    try:
        file = FileIO(path, "r+", opener=lambda name, _: os.open(name, os.O_RDWR | os.O_CLOEXEC | flags, 0o644))
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        # No locks on this file system: the names alone decide.
        pass
    return file


def check_room(needs: Mapping[Path, int]) -> None:
    """Make sure that every file system has room for what is about to be written to it.

    Args:
        needs: folder -> bytes; folders on one file system are added up. Missing folders count as their parents.

    A file system that gives no size at all, as /proc and some network mounts do, is not judged by it; `check_writable`
    finds those that take nothing.

    Raises:
        SpaceError: One has not; the message says how much is needed, how much there is, and where.
    """
    by_device: dict[int, tuple[list[Path], int]] = {}
    for folder, size_bytes in needs.items():
        place = folder.absolute()
        while not place.exists():
            place = place.parent
        folders, total = by_device.get(place.stat().st_dev, ([], 0))
        by_device[place.stat().st_dev] = ([*folders, place], total + size_bytes)
    for folders, total in by_device.values():
        usage = shutil.disk_usage(folders[0])
        free = usage.free
        if usage.total and free < total:
            places = " and ".join(dict.fromkeys(str(folder) for folder in folders))
            raise SpaceError(
                f"not enough room in {places}: {_size(total)} needed, {_size(free)} free",
                hint="free some, or choose other places with --cache-dir and -o",
            )


def _size(size_bytes: float) -> str:
    """Return a size for people, in powers of 1000 as disks are sold: ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.2f} TB"
