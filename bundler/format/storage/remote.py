"""The stored bytes of a bundle behind an address (`bundler.remote`), fetched ahead where it is known what comes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from bundler.errors import ChangedError, FormatError
from bundler.format.storage.stored import Stored
from bundler.remote.address import Address, Place
from bundler.remote.ahead import Ahead
from bundler.remote.object import RemoteObject
from bundler.remote.whole import WholeObject


class RemoteStored(Stored):
    """A bundle behind an address (see `bundler.format.storage.stored.Stored`).

    Args:
        source: What it leads to; closed with this. Where its server has no ranges, it is copied first.
        address: The address.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
        SpaceError: There is no room for a copy.
    """

    def __init__(self, source: RemoteObject, address: Address) -> None:
        self.path: Place = address
        try:
            self._source = source if source.has_ranges else WholeObject(source)
        except BaseException:
            source.close()
            raise
        self.size_bytes = self._source.size_bytes or 0
        self._ahead: Ahead | None = None

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start` (see `Stored`)."""
        if start + len(target) > self.size_bytes:
            missing = start + len(target) - self.size_bytes
            raise FormatError(f"{self.path}: ends at byte {self.size_bytes}, expected {missing} more")
        ahead = self._ahead
        if ahead is None or not ahead.read_into(start, target):
            self._source.read_into(start, target)

    def file_at(self, start: int) -> Place:
        """Return the address."""
        return self.path

    @contextlib.contextmanager
    def expect(self, spans: Iterable[tuple[int, int]]) -> Iterator[None]:
        """Fetch ahead of the reads that follow (see `Stored`)."""
        before, self._ahead = self._ahead, Ahead(self._source, spans)
        try:
            yield
        finally:
            self._ahead.close()
            self._ahead = before

    def check_digest(self, digest: str) -> None:
        """Compare the bundle's digest with what is known of it by the address.

        Raises:
            ChangedError: They differ.
        """
        expected = self._source.bundle_digest
        if expected is not None and digest != expected:
            raise ChangedError(f"{self.path}: expected bundle {expected}, found {digest}")

    def close(self) -> None:
        """Close all connections."""
        self._source.close()
