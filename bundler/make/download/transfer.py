"""Transfer one file over HTTP into a partial file: continue after a broken connection, hash meanwhile, and always end.

Rule book:

* no more bytes are read than the lock states, whatever a server sends;
* after a broken connection the transfer continues, as long as connections bring new bytes
  (`bundler.make.download.request`);
* a large file comes over several connections, if the server can (`bundler.make.download.parts`); everything else in
  order over one;
* if a server says that the file is shorter than the lock states, that is not a broken connection but other content,
  which `mismatch` reports.

`bundler.make.download.download` decides what to do with content that does not match.
"""

from __future__ import annotations

import httpx2

from bundler.files.digest import BLOCK_BYTES, Algorithm, Digests, Hasher, hash_file
from bundler.hub.connection.answers import decoded_blocks, not_dripping
from bundler.hub.connection.crew import Crew
from bundler.make.download import parts
from bundler.make.download.request import (
    BROKEN,
    Address,
    Control,
    Patience,
    StoppedError,
    content_range,
    raise_final_refusal,
)
from bundler.make.staging.partial import Partial
from bundler.make.store import StoredBlob
from bundler.plan.lock import LockedFile


class Transfer:
    """The transfer of the bytes of a file that its partial file lacks.

    Args:
        address: Where the file is.
        partial: The partial file to write to.
        file: The file's entry in the lock.
        control: How it is stopped, and who hears of it.
        crew: Who may help with a large file; None for one connection.
    """

    def __init__(
        self,
        address: Address,
        partial: Partial,
        file: LockedFile,
        control: Control,
        *,
        crew: Crew | None = None,
    ) -> None:
        self._address = address
        self._partial = partial
        self._file = file
        self._control = control
        self._crew = crew
        self._hasher = self._make_hasher()
        # What is written and not hashed: many threads that hash small blocks wait for each other.
        self._unhashed = memoryview(bytearray(min(BLOCK_BYTES, file.size_bytes)))
        self._unhashed_bytes = 0
        self._have = 0
        self._is_longer = False

    def run(self) -> Digests:
        """Fetch to the end and return the digests of the whole file.

        Raises:
            StoppedError: `stop` was set.
            httpx2.TransportError: The connection broke too often without bringing new bytes.
            httpx2.HTTPStatusError: The Hub refused.
            OSError: The partial file cannot be written.
        """
        if self._crew is not None and self._is_worth_parts(self._crew):
            parted = parts.PartedTransfer(
                self._address, self._partial, self._make_hasher(), self._crew, self._control
            )
            if (digests := parted.run()) is not None:
                return digests
        return self._run_in_order()

    def _is_worth_parts(self, crew: Crew) -> bool:
        # What has holes is finished in the same way, with one job too.
        lacks = self._partial.content_bytes - self._partial.front_bytes
        has_holes = self._partial.size_bytes > self._partial.front_bytes
        return has_holes or (crew.jobs > 1 and lacks >= 2 * parts.PART_BYTES)

    def _run_in_order(self) -> Digests:
        self._hash_partial()
        patience = Patience(self._control.stop, self._have)
        while self._have < self._file.size_bytes:
            try:
                if self._request():
                    # The git hash begins with the length, and the file has another one: hash it again.
                    return hash_file(self._partial.path, *algorithms(self._file))
                if self._have < self._file.size_bytes:
                    raise httpx2.RemoteProtocolError(
                        f"the connection ended {self._file.size_bytes - self._have:,} bytes early"
                    )
            except BROKEN as error:
                patience.wait(error, self._have)
        self._hash()
        return self._hasher.result()

    def fault(self, digests: Digests) -> str | None:
        """Return how the digests that `run` returned differ from the lock; None if they do not."""
        fault = mismatch(self._file, digests)
        if fault and self._is_longer:
            return f"expected {self._file.size_bytes:,} bytes (in the lock), found more; of these: {fault}"
        return fault

    def _make_hasher(self) -> Hasher:
        return Hasher(algorithms(self._file), size_bytes=self._file.size_bytes)

    def _hash_partial(self) -> None:
        self._partial.cut_to_front()
        while block := self._partial.read(self._have, BLOCK_BYTES):
            self._take(block)

    def _take(self, block: bytes) -> None:
        if self._control.stop.is_set():
            raise StoppedError
        rest = memoryview(block)
        if not self._unhashed_bytes and len(rest) >= len(self._unhashed) // 2:
            self._hasher.update(rest)
            rest = rest[:0]
        while rest:
            count = min(len(rest), len(self._unhashed) - self._unhashed_bytes)
            self._unhashed[self._unhashed_bytes : self._unhashed_bytes + count] = rest[:count]
            self._unhashed_bytes += count
            rest = rest[count:]
            if self._unhashed_bytes == len(self._unhashed):
                self._hash()
        self._have += len(block)
        self._control.on_progress(len(block))

    def _hash(self) -> None:
        self._hasher.update(self._unhashed[: self._unhashed_bytes])
        self._unhashed_bytes = 0

    def _start_over(self) -> None:
        self._control.on_progress(-self._have)
        self._partial.clear()
        self._hasher = self._make_hasher()
        self._unhashed_bytes = 0
        self._have = 0

    def _request(self) -> bool:
        """Request the missing bytes; return whether the server says that the file is shorter than in the lock."""
        wanted = {"Range": f"bytes={self._have}-"} if self._have else {}
        with self._address.ask(**wanted) as response:
            if response.status_code == 416:
                # The server has no bytes after ours.
                return True
            raise_final_refusal(response)
            told = content_range(response)
            if self._have and not (told and told[0] == self._have):
                # A server may ignore Range, and send the whole file.
                self._start_over()
            # Take blocks as they arrive, so that `stop` is noticed soon.
            for block in not_dripping(decoded_blocks(response)):
                room = self._file.size_bytes - self._have
                kept = block[:room]
                self._partial.write(kept)
                self._control.on_received(len(kept))
                self._take(kept)
                if len(block) > room:
                    # Longer than the lock states: it is wrong in any case, and might never end.
                    self._is_longer = True
                    return False
            if self._have == self._file.size_bytes:
                return False
            if told:
                return told[1] == str(self._have)
            # The client has checked that it received as many bytes as the Content-Length said.
            return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers


def algorithms(file: LockedFile) -> tuple[Algorithm, ...]:
    """Return the digests to compute of a file; for an LFS file the published git hash is that of its pointer."""
    return ("sha256", "blake3") if file.lfs_sha256 else ("sha256", "blake3", "git_sha1")


def mismatch(file: LockedFile, found: Digests | StoredBlob) -> str | None:
    """Compare the digests of a content with all that the lock has for the file.

    Returns:
        What was expected and what was found; None if everything agrees.
    """
    pairs = [
        ("sha256", "published by the Hub", file.lfs_sha256, found.sha256),
        ("sha256", "in the lock", file.sha256, found.sha256),
        ("blake3", "in the lock", file.blake3, found.blake3),
    ]
    if file.lfs_sha256 is None:
        pairs.append(("git-sha1", "published by the Hub", file.blob_id, found.git_sha1))
    digest = next(
        (
            f"expected {name} {expected} ({origin}), found {actual}"
            for name, origin, expected, actual in pairs
            if expected is not None and expected != actual
        ),
        None,
    )
    if found.size_bytes == file.size_bytes:
        return digest
    length = f"expected {file.size_bytes:,} bytes (in the lock), found {found.size_bytes:,}"
    if digest is None:
        return f"{length}, but the expected hash: the size in the lock is wrong"
    return f"{length}; {digest}"
