"""Transfer one large file over several connections, each of which brings a part, and hash it from front to back.

Rule book:

* the first part is asked for alone. Only if the server answers with it, of a file of the length in the lock, are the
  others given to the crew; else the file comes in order over one connection (`bundler.make.download.transfer`);
* each part must come from the same file: the server is asked to send it only if the entity tag is that of the first
  (If-Range, RFC 9110, section 13.1.5). If it sends something else, the file comes in order from what is at the front;
* which ranges are there is noted beside them (`bundler.make.staging.ranges`): the next process asks for the others;
* where the Hub redirects to a signed address, parts ask that address, which costs the Hub one request for each file.
  When it has expired, the Hub is asked again;
* nobody writes any more when `run` ends.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial as bind

import httpx2

from bundler.files.digest import BLOCK_BYTES, Digests, Hasher
from bundler.hub.connection.answers import decoded_blocks, not_dripping
from bundler.hub.connection.crew import Crew
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

# At 20 MB/s a connection needs 0.8 s for a part, and a round trip of 50 ms to ask for it.
PART_BYTES = 16 << 20
_NOTE_BYTES = 4 << 20
_POLL_SECONDS = 0.2
# What a signed address that has expired answers, or one that its host has forgotten.
_EXPIRED_STATUS_CODES = (400, 401, 403, 404, 410)


class _OtherContentError(Exception):
    """The server does not send this part of this file."""


@dataclass
class _Part:
    """Bytes `at` to `end`, the first of which is wanted next."""

    at: int
    end: int


class PartedTransfer:
    """The transfer of what a partial file lacks, in parts.

    Args:
        address: Where the file is.
        partial: The partial file to write to.
        hasher: For the whole file; nothing was fed.
        crew: Who takes parts.
        control: How it is stopped, and who hears of it.
    """

    def __init__(self, address: Address, partial: Partial, hasher: Hasher, crew: Crew, control: Control) -> None:
        self._address = address
        # Where a redirect led.
        self._direct: Address | None = None
        self._entity_tag: str | None = None
        self._partial = partial
        self._hasher = hasher
        self._hashed = 0
        self._crew = crew
        self._control = control
        self._condition = threading.Condition()
        self._waiting = [
            _Part(start, min(start + PART_BYTES, end))
            for first, end in partial.missing()
            for start in range(first, end, PART_BYTES)
        ]
        self._left = len(self._waiting)
        self._running = 0
        self._is_over = False
        self._failure: BaseException | None = None

    def run(self) -> Digests | None:
        """Fetch to the end and return the digests of the whole file.

        Returns:
            The digests; None if the server does not send parts of this file. Then what is at the front counts as
            nothing more than that, and `control.on_progress` was told so.

        Raises:
            StoppedError: `stop` was set.
            httpx2.TransportError: A connection broke too often without bringing new bytes.
            HfHubHTTPError: The Hub refused.
            OSError: The partial file cannot be written.
        """
        self._partial.note()
        self._control.on_progress(self._partial.size_bytes)
        if self._waiting:
            self._do(self._waiting.pop(0))
        try:
            self._wait_for_parts()
        finally:
            with self._condition:
                self._is_over = True
                while self._running:
                    self._condition.wait()
            self._partial.note()
        if isinstance(self._failure, _OtherContentError):
            self._control.on_progress(-self._partial.size_bytes)
            self._partial.cut_to_front()
            return None
        if self._failure:
            raise self._failure
        return self._hasher.result()

    def _wait_for_parts(self) -> None:
        """Hash what is at the front, and take parts meanwhile, until all is hashed or something failed."""
        while self._failure is None:
            self._hash_front()
            if self._hashed == self._partial.content_bytes:
                return
            if task := self._crew.take_part():
                task()
                continue
            with self._condition:
                if self._failure is None and self._left and self._partial.front_bytes == self._hashed:
                    self._condition.wait(_POLL_SECONDS)
            if self._control.stop.is_set():
                raise StoppedError

    def _hash_front(self) -> None:
        front = self._partial.front_bytes
        while self._hashed < front:
            if self._control.stop.is_set():
                raise StoppedError
            block = self._partial.read(self._hashed, min(BLOCK_BYTES, front - self._hashed))
            self._hasher.update(block)
            self._hashed += len(block)

    def _do(self, part: _Part) -> None:
        """Bring one part; may be called on any thread, and keeps a failure for `run`."""
        with self._condition:
            if self._is_over or self._failure is not None:
                return
            self._running += 1
        failure: BaseException | None = None
        try:
            self._bring(part)
        except BaseException as error:
            failure = error
        with self._condition:
            self._running -= 1
            self._left -= 1
            self._failure = self._failure or failure
            self._condition.notify_all()

    def _bring(self, part: _Part) -> None:
        patience = Patience(self._control.stop, part.at)
        while part.at < part.end:
            try:
                self._request(part)
                if part.at < part.end:
                    raise httpx2.RemoteProtocolError(
                        f"the connection ended {part.end - part.at:,} bytes before the end of a part"
                    )
            except BROKEN as error:
                patience.wait(error, part.at)
        self._partial.note()

    def _request(self, part: _Part) -> None:
        direct = self._direct
        wanted = {"Range": f"bytes={part.at}-{part.end - 1}"}
        if self._entity_tag is not None:
            wanted["If-Range"] = self._entity_tag
        with (direct or self._address).ask(**wanted) as response:
            if direct and response.status_code in _EXPIRED_STATUS_CODES:
                self._direct = None
                raise httpx2.RemoteProtocolError(f"a signed address answered {response.status_code}")
            if response.status_code == 416:
                raise _OtherContentError
            raise_final_refusal(response)
            self._check(part, response)
            self._direct = self._direct or self._address.redirected(response)
            self._offer_others()
            self._write(part, response)

    def _check(self, part: _Part, response: httpx2.Response) -> None:
        if content_range(response) != (part.at, str(self._partial.content_bytes)):
            raise _OtherContentError
        tag = response.headers.get("ETag")
        # A weak one names no bytes; it is not for If-Range.
        if tag and not tag.startswith("W/"):
            with self._condition:
                if self._entity_tag not in (None, tag):
                    raise _OtherContentError
                self._entity_tag = tag

    def _offer_others(self) -> None:
        with self._condition:
            parts, self._waiting = self._waiting, []
        if parts:
            self._crew.offer([bind(self._do, part) for part in parts])

    def _write(self, part: _Part, response: httpx2.Response) -> None:
        noted = part.at
        # Take blocks as they arrive, so that `stop` is noticed soon.
        for block in not_dripping(decoded_blocks(response)):
            kept = block[: part.end - part.at]
            self._partial.write_at(part.at, kept)
            part.at += len(kept)
            self._control.on_received(len(kept))
            self._control.on_progress(len(kept))
            if self._control.stop.is_set():
                raise StoppedError
            if self._is_over or len(kept) < len(block):
                return
            if part.at - noted >= _NOTE_BYTES:
                self._partial.note()
                noted = part.at
