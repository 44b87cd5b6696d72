"""What every kind of address is read by: the bytes at ranges of one object, or all of them once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from bundler.errors import ChangedError, NetworkError, RemoteError

Take = Callable[[memoryview], None]
# What reading an object ends with for the server's sake, not for that of its bytes.
SERVER_ERRORS = (NetworkError, RemoteError, ChangedError)


class Body(Protocol):
    """The bytes of an object from the first one on; a context manager that closes the connection."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Read some bytes into `buffer`; return 0 at the end.

        Raises:
            NetworkError: The connection broke.
        """

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""


class RemoteObject(Protocol):
    """An object on another machine; all methods may be called from several threads.

    Attributes:
        label: What it is called in messages, without a secret.
        size_bytes: Its length; None where that is not known before its end.
        has_ranges: Whether `read_into` may be called; else only `stream`.
        content_digest: The SHA-256 that it must have, ``sha256:…``; None where none is known.
        bundle_digest: What a list that was checked by its own digest says of the bundle in it; None of most.
    """

    label: str
    size_bytes: int | None
    has_ranges: bool
    content_digest: str | None
    bundle_digest: str | None

    @property
    def version(self) -> str | None:
        """What tells it from other objects that its address may lead to at another time; None where nothing does."""

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start`; what breaks on the way is asked for again.

        Raises:
            NetworkError: The server cannot be reached, or broke the connection too often.
            RemoteError: The server refused.
            ChangedError: The object is another one than at first.
        """

    def read_blocks(self, start: int, stop: int, take: Take, halt: threading.Event) -> None:
        """Hand over the bytes from `start` to `stop` in order, as they arrive; else like `read_into`.

        Args:
            start: The first byte.
            stop: The byte after the last.
            take: Given block by block; a block is good until it returns.
            halt: When it is set, no more bytes are wanted.
        """

    def stream(self) -> Body:
        """Open the object from its first byte on.

        Raises:
            NetworkError: The server cannot be reached.
            RemoteError: The server refused.
        """

    def close(self) -> None:
        """Close all connections."""
