"""Exact reads from a pipe."""

from __future__ import annotations

from typing import Protocol

from bundler.errors import FormatError

_CUT_SHORT_HINT = "send it again; verified content is kept, and not written twice"


class Readable(Protocol):
    """A raw file that a stream is read from."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read some bytes into `buffer`; return 0 at the end."""


class StreamInput:
    """Reads an exact number of bytes from a stream; a few bytes can be put back."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._back = b""
        self._position = 0

    def put_back(self, data: bytes) -> None:
        """Have these bytes read again, before the rest."""
        self._back = data + self._back

    def read(self, size: int, what: str) -> bytes:
        """Read exactly `size` bytes (see `read_into_new`)."""
        return bytes(self.read_into_new(size, what))

    def read_into_new(self, size: int, what: str) -> memoryview:
        """Read exactly `size` bytes.

        Raises:
            FormatError: The stream ends too early; the message says that `what` was expected.
        """
        view = memoryview(bytearray(size))
        done = min(len(self._back), size)
        view[:done] = self._back[:done]
        self._back = self._back[done:]
        while done < size:
            count = self._stream.readinto(view[done:])
            if not count:
                raise FormatError(
                    f"cut short: it ends after {self._position:,} bytes, expected {what}", hint=_CUT_SHORT_HINT
                )
            done += count
            self._position += count
        return view

    def has_more(self) -> bool:
        """Tell whether the stream goes on; a byte of it is lost."""
        return bool(self._back or self._stream.readinto(memoryview(bytearray(1))))
