"""Transfer one file over HTTP into a partial file: continue after a broken connection, hash meanwhile, and always end.

Rule book:

* no more bytes are read than the lock states, whatever a server sends;
* after a broken connection the transfer continues. If `RETRIES_WITHOUT_PROGRESS` connections in a row bring no new
  bytes, it is an error. Only bytes beyond the longest length so far are new, so this also ends with a server that makes
  the client start over again and again;
* a very slow connection counts as one that breaks and brings nothing new, because the client's own timeout accepts one
  byte now and then;
* if a server says that the file is shorter than the lock states, that is not a broken connection but other content,
  which `mismatch` reports.

`bundler.make.download` decides what to do with content that does not match.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from threading import Event

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from bundler.files.digest import BLOCK_BYTES, Algorithm, Digests, Hasher, hash_file
from bundler.hub.connection.answers import (
    DrippingError,
    decoded_blocks,
    not_dripping,
    open_answer,
    raise_refusal,
    wait_seconds,
    within,
)
from bundler.hub.connection.endpoint import host_of
from bundler.make.partial import Partial
from bundler.make.store import StoredBlob
from bundler.plan.lock import LockedFile

# How many connections in a row may break without bringing a new byte.
RETRIES_WITHOUT_PROGRESS = 4
# A server that asks for more is not waited for.
_MOST_WAIT_SECONDS = 900.0
_RETRIED_STATUS_CODES = (408, 429, 500, 502, 503, 504)
# RFC 9110, section 14.4.
_CONTENT_RANGE = re.compile(r"bytes (?P<first>[0-9]+)-(?P<last>[0-9]+)/(?P<length>[0-9]+|\*)")


class StoppedError(Exception):
    """The download was told to stop (Ctrl-C, or another file failed); the bytes so far are kept."""


class _LaterError(httpx2.RemoteProtocolError):
    """A server wants to be asked later.

    Attributes:
        seconds: When.
    """

    def __init__(self, refusal: Exception, seconds: float) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.seconds = seconds


class Transfer:
    """The transfer of the bytes of a file that its partial file lacks.

    Args:
        url: The file's address.
        headers: Request headers, with the token.
        partial: The partial file to write to.
        file: The file's entry in the lock.
        stop: When it is set, `run` ends with `StoppedError`.
        on_progress: Called with the number of new bytes in the file; negative when bytes are thrown away.
        on_received: Called with the number of bytes that came over the network.
        open_url: Asks for an address, as `open_answer` does.
    """

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        partial: Partial,
        file: LockedFile,
        *,
        stop: Event,
        on_progress: Callable[[int], None],
        on_received: Callable[[int], None],
        open_url: Callable[..., AbstractContextManager[httpx2.Response]] = open_answer,
    ) -> None:
        self._open_url = open_url
        self._url = url
        # Ask for no compression: a compressed answer has another length, and its ranges count compressed bytes.
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._partial = partial
        self._file = file
        self._stop = stop
        self._on_progress = on_progress
        self._on_received = on_received
        self._hasher = self._make_hasher()
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
        self._hash_partial()
        failures, reached = 0, self._have
        while self._have < self._file.size_bytes:
            try:
                if self._request():
                    # The git hash begins with the length, and the file has another one: hash it again.
                    return hash_file(self._partial.path, *algorithms(self._file))
                if self._have < self._file.size_bytes:
                    raise httpx2.RemoteProtocolError(
                        f"the connection ended {self._file.size_bytes - self._have:,} bytes early"
                    )
            except (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError) as error:
                is_new = self._have > reached and not isinstance(error, DrippingError)
                failures = 1 if is_new else failures + 1
                reached = max(reached, self._have)
                pause = min(2.0 ** (failures - 2), 8.0)
                if isinstance(error, _LaterError):
                    if failures > RETRIES_WITHOUT_PROGRESS or error.seconds > _MOST_WAIT_SECONDS:
                        raise error.refusal from None
                    pause = max(pause, error.seconds)
                if failures > RETRIES_WITHOUT_PROGRESS:
                    raise
                if self._stop.wait(pause):
                    raise StoppedError from None
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
        there = self._partial.size_bytes
        if there > self._file.size_bytes:
            # Longer than the file: it cannot be a part of it.
            self._partial.clear()
            return
        self._partial.file.seek(0)
        while block := self._partial.file.read(BLOCK_BYTES):
            self._take(block)

    def _take(self, block: bytes) -> None:
        if self._stop.is_set():
            raise StoppedError
        self._hasher.update(block)
        self._have += len(block)
        self._on_progress(len(block))

    def _start_over(self) -> None:
        self._on_progress(-self._have)
        self._partial.clear()
        self._hasher = self._make_hasher()
        self._have = 0

    def _request(self) -> bool:
        """Request the missing bytes; return whether the server says that the file is shorter than in the lock."""
        headers = dict(self._headers)
        if self._have:
            headers["Range"] = f"bytes={self._have}-"
        timeout = httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        with ExitStack() as opened:
            response = within(
                lambda: opened.enter_context(self._open_url(self._url, headers=headers, timeout=timeout)),
                host=host_of(self._url),
            )
            if response.status_code == 416:
                # The server has no bytes after ours.
                return True
            _raise_refusal(response)
            content_range = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if response.status_code != 206:
                content_range = None
            if self._have and not (content_range and int(content_range["first"]) == self._have):
                # A server may ignore Range, and send the whole file.
                self._start_over()
            # Take blocks as they arrive, so that `stop` is noticed soon.
            for block in not_dripping(decoded_blocks(response)):
                room = self._file.size_bytes - self._have
                kept = block[:room]
                self._partial.write(kept)
                self._on_received(len(kept))
                self._take(kept)
                if len(block) > room:
                    # Longer than the lock states: it is wrong in any case, and might never end.
                    self._is_longer = True
                    return False
            if self._have == self._file.size_bytes:
                return False
            if content_range:
                return content_range["length"] == str(self._have)
            # The client has checked that it received as many bytes as the Content-Length said.
            return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers


def _raise_refusal(response: httpx2.Response) -> None:
    try:
        raise_refusal(response)
    except HfHubHTTPError as error:
        if response.status_code not in _RETRIED_STATUS_CODES:
            raise
        raise _LaterError(error, wait_seconds(response.headers, default=0.0)) from error


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
