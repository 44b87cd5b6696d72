"""The data types that SSH's keys and signatures are written in (RFC 4251, section 5)."""

from __future__ import annotations


class MalformedError(Exception):
    """Bytes are not what SSH writes. The message is one sentence, without where they stand."""


class WireReader:
    """Reads values from the front of some bytes.

    Args:
        content: The bytes.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.position = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes.

        Raises:
            MalformedError: There are fewer.
        """
        found = self._content[self.position : self.position + count]
        if len(found) != count:
            raise MalformedError(f"expected {count} bytes at byte {self.position}, found {len(found)}")
        self.position += count
        return found

    def number(self, size_bytes: int = 4) -> int:
        """Return an unsigned number of `size_bytes`: 1 for a byte, 4 for uint32, 8 for uint64."""
        return int.from_bytes(self.take(size_bytes), "big")

    def string(self) -> bytes:
        """Return a string: a length, and as many bytes."""
        return self.take(self.number())

    def text(self) -> str:
        """Return a string that is text."""
        try:
            return self.string().decode()
        except UnicodeDecodeError as error:
            raise MalformedError(f"expected text before byte {self.position}, found other bytes") from error

    def mpint(self) -> int:
        """Return a number of any length that is not negative."""
        found = int.from_bytes(self.string(), "big", signed=True)
        if found < 0:
            raise MalformedError(f"expected a number of at least 0 before byte {self.position}")
        return found

    def end(self) -> None:
        """Make sure that nothing follows.

        Raises:
            MalformedError: Something does.
        """
        if more := len(self._content) - self.position:
            raise MalformedError(f"expected the end at byte {self.position}, found {more} bytes more")


def string(content: bytes) -> bytes:
    """Write a string."""
    return len(content).to_bytes(4, "big") + content
