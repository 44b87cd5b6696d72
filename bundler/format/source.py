"""What an installation reads a bundle from: a file, volumes, or a stream that can be read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bundler.format.base_records import BaseRecord
from bundler.format.codec.codecs import Buffer
from bundler.format.contents.bases import Bases, Contents
from bundler.format.tar import TarPlan
from bundler.plan.lock import Lock
from bundler.remote.address import Place

# A range of the tar stream: (first byte, byte after the last).
Span = tuple[int, int]
# Takes the bytes of a run, on any thread, and calls the second argument once they may be written over.
Take = Callable[[Buffer, Callable[[], None]], None]
# (offset in the tar stream, offset behind it) -> what takes the run between them.
Prepare = Callable[[int, int], Take]


class Source(Protocol):
    """A bundle that can be read front to back (`BundleReader`, `BundleStream`)."""

    # Where contents can be read that chunks are differences from; set before `runs`.
    elsewhere: Contents | None

    @property
    def is_read_once(self) -> bool:
        """Whether what has been read is gone: bases must then be elsewhere when they are needed."""

    @property
    def label(self) -> str:
        """Its name for messages."""

    @property
    def place(self) -> Place | list[Path] | None:
        """Where it is; None of a pipe."""

    @property
    def lock(self) -> Lock:
        """The lock inside."""

    @property
    def omitted(self) -> frozenset[str] | None:
        """The contents (sha256) that a delta leaves out because its base has them; None for a whole bundle."""

    @property
    def bases(self) -> Bases:
        """Contents (sha256) that are stored as differences -> what from."""

    @property
    def plan(self) -> TarPlan:
        """What the tar stream must be according to the lock."""

    @property
    def base(self) -> BaseRecord | None:
        """What a delta records about its base; None for a whole bundle, and for a stream before `runs` has ended."""

    @property
    def digest(self) -> str:
        """The bundle's digest; a stream knows it only after `runs` has ended."""

    @property
    def whole_digest(self) -> str:
        """The digest that an installation has (`bundler.format.index.Index`); of a stream as `digest`."""

    def hand_out(self, wanted: Sequence[Span], prepare: Prepare, *, jobs: int) -> None:
        """Read the chunks that hold `wanted`, and hand out the run of the tar stream that each of them holds.

        Every byte of `wanted` is in one of the runs. Each run was checked against the digest of its chunk; when this
        returns, the index that holds those digests was checked too.

        Args:
            wanted: Spans to decode: sorted, without overlap. A source may skip everything else.
            prepare: Called for each run before it is read, by one thread at a time. Where several files are read at
                once, the parts of each come in order, and so does all that is not alone in its chunk.
            jobs: Threads that check, decode and take, in bounded memory.

        Raises:
            FormatError: A part of the bundle is damaged or missing; of a stream all that came before was handed out.
        """

    def close(self) -> None:
        """Close what was opened."""


class NeededSpans:
    """Answers for runs, in ascending order, whether they hold some of the spans.

    Args:
        spans: Sorted, without overlap.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._at = 0

    def any_of(self, start: int, stop: int) -> bool:
        """Tell whether bytes `start` to `stop` hold some of a span."""
        while self._at < len(self._spans) and self._spans[self._at][1] <= start:
            self._at += 1
        return self._at < len(self._spans) and self._spans[self._at][0] < stop
