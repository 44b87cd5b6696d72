"""What every kind of address is read by: the bytes at ranges of one object, or all of them once."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


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
        bundle_digest: What a list that was checked by its own digest says of the bundle in it; None of most.
    """

    label: str
    size_bytes: int | None
    has_ranges: bool
    bundle_digest: str | None

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start`; what breaks on the way is asked for again.

        Raises:
            NetworkError: The server cannot be reached, or broke the connection too often.
            RemoteError: The server refused.
            ChangedError: The object is another one than at first.
        """

    def stream(self) -> Body:
        """Open the object from its first byte on.

        Raises:
            NetworkError: The server cannot be reached.
            RemoteError: The server refused.
        """

    def close(self) -> None:
        """Close all connections."""
