"""What an installation reads a bundle from: a file, volumes, or a stream that passes by once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from bundler.format.codec.codecs import Buffer
from bundler.format.index import BaseRecord
from bundler.format.tar import TarPlan
from bundler.plan.lock import Lock

# From a byte of the tar stream up to another.
Span = tuple[int, int]


class Source(Protocol):
    """A bundle that can be read front to back (`BundleReader`, `BundleStream`)."""

    @property
    def label(self) -> str:
        """What to call it in messages."""

    @property
    def lock(self) -> Lock:
        """The lock inside."""

    @property
    def omitted(self) -> frozenset[str] | None:
        """The contents (sha256) that a delta leaves to its base; None for a whole bundle."""

    @property
    def plan(self) -> TarPlan:
        """What the tar stream must be, by the lock."""

    @property
    def base(self) -> BaseRecord | None:
        """Of a delta, what it says of its base; None where that is not known yet."""

    @property
    def digest(self) -> str:
        """The bundle's digest; of a stream only once `runs` has ended."""

    def runs(self, wanted: Sequence[Span], *, jobs: int) -> Iterator[tuple[int, Buffer]]:
        """Yield where a run of the tar stream starts, and its bytes, in stream order.

        Law: every byte of `wanted` is in one of the runs. What a run holds was checked against the digest of its
        chunk; once the iterator has ended, the index that names those digests was checked too.

        Args:
            wanted: What must be decoded: sorted, without overlap. A source may skip what is not.
            jobs: Threads that check and decode ahead, in bounded memory.

        Raises:
            FormatError: Something of it is damaged, or missing.
        """

    def close(self) -> None:
        """Let go of what was opened."""
