"""One object of a web server, read at ranges (RFC 9110, section 14), or from front to back where it has none.

Rule book:

* the first request asks for the first bytes, and says what the server can: 206 is a server with ranges, 200 one
  without;
* every later range must be of the same object: length and validators (ETag, Last-Modified) of its answer are compared,
  and the entity tag goes along (If-Range, section 13.1.5). What differs is `ChangedError`, never a mixture;
* a server that answers one range with all of it, as a cache that does not have it yet, is read up to what is wanted;
* where a redirect leads to is asked directly, until that address has expired;
* a broken connection goes on from the byte where it broke.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from bundler.errors import ChangedError, RemoteError
from bundler.remote.address import show
from bundler.remote.http.answer import BROKEN, Answer
from bundler.remote.http.client import Client, explain_broken
from bundler.remote.http.login import Login, NoLogin
from bundler.remote.http.patience import LaterError, Patience, raise_refusal
from bundler.remote.object import Take
from bundler.remote.url import to_ascii

# Enough for the first bytes of a bundle, and in small ones for its lock.
HEAD_BYTES = 64 << 10
_BLOCK_BYTES = 1 << 20
_ARRIVED_BYTES = 256 << 10
# More digits are no length of anything: an exabyte has 19.
_RANGE = re.compile(r"bytes (?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})/(?P<length>[0-9]{1,18})")
_LENGTH = re.compile(r"[0-9]{1,18}")
# What a signed address that has expired answers, or one that its host has forgotten.
_EXPIRED = (400, 401, 403, 404, 410)


class HttpObject:
    """One object of a web server (see `bundler.remote.object.RemoteObject`).

    Args:
        client: Sends the requests; closed with this.
        url: The address, without a user.
        label: What it is called in messages.
        login: Whom to ask as.
        is_immutable: Whether the address names its content by a digest, and so cannot be another one later.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
    """

    def __init__(
        self, client: Client, url: str, label: str, *, login: Login | None = None, is_immutable: bool = False
    ) -> None:
        self.label = label
        self.size_bytes: int | None = None
        self.has_ranges = False
        self.bundle_digest: str | None = None
        self.content_digest: str | None = None
        self.client, self._url = client, to_ascii(url)
        self._login: Login = login or NoLogin()
        self._is_immutable = is_immutable
        self._mutex = threading.Lock()
        self._direct: str | None = None
        self._head = b""
        patience = Patience()
        while True:
            try:
                self._open()
                return
            except BROKEN as error:
                patience.wait(error, 0, url)

    @property
    def version(self) -> str | None:
        """What tells this object from others at its address (see `RemoteObject`)."""
        return self.content_digest or self._tags.version

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start` (see `RemoteObject`)."""
        held = self._head[start : start + len(target)]
        target[: len(held)] = held
        self._bring(_Memory(start + len(held), target[len(held) :]))

    def read_blocks(self, start: int, stop: int, take: Take, halt: threading.Event) -> None:
        """Hand over the bytes from `start` to `stop` as they arrive (see `RemoteObject`)."""
        self._bring(_Blocks(start, stop, take, halt))

    def stream(self) -> StreamedBody:
        """Open the object from its first byte on (see `RemoteObject`)."""
        answer = self._ask({})
        return StreamedBody(answer)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def _open(self) -> None:
        with self._ask({"Range": f"bytes=0-{HEAD_BYTES - 1}"}, may_be_empty=True) as answer:
            self._tags = _Tags.of(answer)
            if answer.status == 416:
                self.size_bytes, self.has_ranges = 0, True
                return
            if answer.status != 206:
                self.size_bytes = _length_of(answer)
                return
            told = _RANGE.fullmatch(answer.header("Content-Range"))
            if told is None or int(told["first"]) != 0:
                raise self._explain_part(answer, "the first bytes")
            head = bytearray(min(HEAD_BYTES, int(told["last"]) + 1))
            wanted = _Memory(0, memoryview(head))
            wanted.take_from(answer)
            self._head = bytes(head[: wanted.position])
            self.size_bytes, self.has_ranges = int(told["length"]), True
            if answer.url != self._url:
                self._direct = answer.url

    def _bring(self, wanted: _Wanted) -> None:
        patience, begin = Patience(), wanted.position
        while wanted.left_bytes:
            try:
                self._read_range(wanted)
                if wanted.left_bytes:
                    raise ConnectionError(f"it ended {wanted.left_bytes:,} bytes early")
            except _NotTakenError as error:
                raise error.failure from None
            except BROKEN as error:
                patience.wait(error, wanted.position - begin, self._url)

    def _read_range(self, wanted: _Wanted) -> None:
        first, last = wanted.position, wanted.position + wanted.left_bytes - 1
        headers = {"Range": f"bytes={first}-{last}"}
        if self._tags.strong and not self._is_immutable:
            headers["If-Range"] = self._tags.strong
        with self._ask(headers) as answer:
            if answer.status == 206:
                self._check_range(answer, first)
            else:
                self._check_whole(answer)
                _skip(answer, first)
            wanted.take_from(answer)

    def _check_range(self, answer: Answer, first: int) -> None:
        told = _RANGE.fullmatch(answer.header("Content-Range"))
        if told is None or int(told["first"]) != first:
            raise self._explain_part(answer, f"bytes from {first}")
        if int(told["length"]) != self.size_bytes:
            raise self._changed(f"it had {self.size_bytes:,} bytes, and has {int(told['length']):,} now")
        self._check_tags(answer)

    def _check_whole(self, answer: Answer) -> None:
        """Check an answer with all of it: of another object, or of one whose server has forgotten ranges."""
        length = _length_of(answer)
        if length is not None and length != self.size_bytes:
            raise self._changed(f"it had {self.size_bytes:,} bytes, and has {length:,} now")
        self._check_tags(answer)

    def _explain_part(self, answer: Answer, wanted: str) -> RemoteError:
        sent = answer.header("Content-Range")[:80] or "a part without saying which"
        return RemoteError(f"{self.label}: asked for {wanted}, the server sent {sent}")

    def _check_tags(self, answer: Answer) -> None:
        if not self._is_immutable and (problem := self._tags.differ(_Tags.of(answer))):
            raise self._changed(problem)

    def _changed(self, what: str) -> ChangedError:
        return ChangedError(
            f"{self.label}: it was replaced while it was read: {what}", hint="run the same command again"
        )

    def _ask(self, headers: Mapping[str, str], *, may_be_empty: bool = False) -> Answer:
        direct = self._direct
        if direct is not None:
            answer = self.client.send("GET", direct, headers)
            if answer.status not in _EXPIRED:
                return self._checked(answer, may_be_empty=may_be_empty)
            answer.close()
        answer = self.client.send("GET", self._url, headers, login=self._login)
        with self._mutex:
            self._direct = answer.url if answer.url != self._url else None
        return self._checked(answer, may_be_empty=may_be_empty)

    def _checked(self, answer: Answer, *, may_be_empty: bool) -> Answer:
        try:
            if answer.status == 416 and not may_be_empty:
                raise self._changed(f"it had {self.size_bytes or 0:,} bytes, and has fewer now")
            if not (answer.status == 416 and may_be_empty):
                raise_refusal(answer, self.label)
        except (RemoteError, ChangedError, LaterError):
            answer.close()
            raise
        encoding = answer.header("Content-Encoding").lower()
        if answer.status not in (200, 206, 416) or encoding not in ("", "identity"):
            answer.close()
            found = f"{answer.status}{f' in the form {encoding[:40]!r}' if encoding else ''}"
            raise RemoteError(
                f"{self.label}: expected 206 or 200, and the bytes as they are; the server sent {found}"
            )
        return answer


class _Tags:
    """What tells one version of an object from another (RFC 9110, section 8.8)."""

    def __init__(self, etag: str, modified: str) -> None:
        self._etag, self._modified = etag, modified

    @classmethod
    def of(cls, answer: Answer) -> _Tags:
        return cls(answer.header("ETag"), answer.header("Last-Modified"))

    @property
    def strong(self) -> str:
        """The entity tag, where it is one that ranges may be compared by."""
        return self._etag if self._etag.startswith('"') else ""

    @property
    def version(self) -> str | None:
        """What there is of it; a weak entity tag does not tell bytes apart."""
        return self.strong or self._modified or None

    def differ(self, other: _Tags) -> str | None:
        for name, before, now in (
            ("entity tag", self._etag, other._etag),
            ("date", self._modified, other._modified),
        ):
            if before and now and before != now:
                return f"its {name} was {before[:80]}, and is {now[:80]} now"
        return None


class _NotTakenError(Exception):
    """Bytes that have come could not be taken, on a disk that is full for instance: no fault of the connection."""

    def __init__(self, failure: OSError) -> None:
        super().__init__(str(failure))
        self.failure = failure


class _Wanted(Protocol):
    """A range on its way."""

    @property
    def position(self) -> int:
        """The next byte that is wanted."""

    @property
    def left_bytes(self) -> int:
        """How many are."""

    def take_from(self, answer: Answer) -> None:
        """Take what an answer has of them, from the next one on."""


class _Memory:
    """A range that goes to one place in memory."""

    def __init__(self, start: int, target: memoryview) -> None:
        self.position, self._target = start, target

    @property
    def left_bytes(self) -> int:
        return len(self._target)

    def take_from(self, answer: Answer) -> None:
        while self._target and (count := answer.readinto(self._target)):
            self._target = self._target[count:]
            self.position += count


class _Blocks:
    """A range that is handed over in blocks; none is wanted any more when `halt` is set."""

    def __init__(self, start: int, stop: int, take: Take, halt: threading.Event) -> None:
        self.position, self._stop, self._take, self._halt = start, stop, take, halt

    @property
    def left_bytes(self) -> int:
        return 0 if self._halt.is_set() else self._stop - self.position

    def take_from(self, answer: Answer) -> None:
        # As it arrives: what is not handed over yet is lost when the process is killed.
        while (left := self.left_bytes) and (block := answer.read_arrived(min(left, _ARRIVED_BYTES))):
            try:
                self._take(memoryview(block))
            except OSError as error:
                raise _NotTakenError(error) from error
            self.position += len(block)


def _length_of(answer: Answer) -> int | None:
    """Return what an answer says of its length; None where it says nothing.

    Raises:
        RemoteError: It says what is no length.
    """
    told = answer.header("Content-Length")
    if told and not _LENGTH.fullmatch(told):
        raise RemoteError(
            f"{show(answer.url)}: expected a length of at most 18 digits, the server sent {told[:80]}"
        )
    return int(told) if told else None


def _skip(answer: Answer, count: int) -> None:
    room = memoryview(bytearray(_BLOCK_BYTES))
    while count:
        got = answer.readinto(room[: min(count, len(room))])
        if not got:
            raise ConnectionError("it ended before the bytes that were asked for")
        count -= got


class StreamedBody:
    """The bytes of an answer (see `bundler.remote.object.Body`)."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._left = _length_of(answer)

    def readinto(self, buffer: memoryview, /) -> int:
        """Read some bytes (see `Body`)."""
        try:
            count = self._answer.readinto(buffer)
        except BROKEN as error:
            raise explain_broken(error, self._answer.url) from error
        if self._left is not None:
            self._left -= count
            if not count and self._left:
                raise explain_broken(ConnectionError(f"ended {self._left:,} bytes early"), self._answer.url)
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answer.__exit__(kind, error, trace)
