"""Chunks of a bundle, decoded ahead on several threads in bounded memory: given back in order, or handed out.

What is handed out is taken by the thread that decoded it, so that no thread sees all bytes. The SHA-256 of a file is
taken from its first byte to its last, and keeps one core busy; the rest of the work on that file keeps about two more.
So the more cores there are, the more files are read at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

from bundler.files.parallel import call_all, in_order
from bundler.format.codec.buffers import Budget, BufferPool, Flight
from bundler.format.codec.codecs import Buffer
from bundler.format.contents.spans import ChunkReader
from bundler.format.cut import LARGE_BLOB_BYTES
from bundler.format.reading.turns import take_turns
from bundler.format.source import Prepare, Span, Take


class ChunkSource(ChunkReader, Protocol):
    """A bundle whose chunks can be read in any order (`bundler.format.reader.BundleReader`)."""

    pooled_bytes: int

    def cost_of(self, number: int) -> tuple[int, int]:
        """Return the memory that decoding a chunk takes, and how many bytes are stored for that."""


def decode_in_order(reader: ChunkSource, numbers: Sequence[int], *, jobs: int) -> Iterator[tuple[int, Buffer]]:
    """Yield (number, bytes) of chunks in the order of `numbers`; up to `jobs` threads decode ahead.

    The bytes are valid until the next item is asked for: their memory is then reused.
    """
    buffers, budget, work = BufferPool(reader.pooled_bytes), Budget(), reader.new_work()

    def decode(number: int) -> tuple[int, bytearray, Buffer]:
        buffer = buffers.take(reader.room_bytes(number))
        return number, buffer, reader.chunk(number, buffer, work)

    def calls() -> Iterator[Callable[[], tuple[int, bytearray, Buffer]]]:
        for number in numbers:
            budget.take(*reader.cost_of(number))
            yield partial(decode, number)

    for number, buffer, raw in in_order(calls(), jobs=jobs, name="unpack", has_room=budget.has_room):
        yield number, raw
        buffers.give(buffer)
        budget.give()
        del buffer, raw  # A large one is not in the pool, and not kept while the next is decoded.


def hand_out(reader: ChunkSource, numbers: Iterable[int], prepare: Prepare, *, jobs: int) -> None:
    """Decode chunks, and hand them out (see `bundler.format.source.Source`).

    Args:
        reader: The bundle.
        numbers: The chunks, in the order in which they are prepared for.
        prepare: Called for each before it is decoded.
        jobs: Threads.

    Raises:
        FormatError: A chunk is damaged; of several the first.
    """
    buffers, flight, work = BufferPool(reader.pooled_bytes), Flight(jobs), reader.new_work()

    def decode(number: int, take: Take, land: Callable[[], None]) -> None:
        buffer = buffers.take(reader.room_bytes(number))

        def done() -> None:
            buffers.give(buffer)
            land()

        take(reader.chunk(number, buffer, work), done)

    def calls() -> Iterator[Callable[[], None]]:
        for number in numbers:
            if not flight.wait():
                return
            take = prepare(reader.chunk_start(number), reader.chunk_start(number + 1))
            yield partial(decode, number, take, flight.take(*reader.cost_of(number)))

    call_all(calls(), jobs=jobs, name="unpack", on_failure=flight.stop)


def order_by_turns(
    reader: ChunkReader, numbers: Sequence[int], spans: Iterable[Span], *, jobs: int
) -> Sequence[int]:
    """Return the numbers of chunks so that large files take turns, if each has chunks of its own; else as they are.

    Args:
        reader: The bundle.
        numbers: The chunks, ascending: of each file all, or none that is its own.
        spans: Where each content begins and ends in the tar stream, ascending.
        jobs: Threads that read.
    """
    files: list[range] = []
    wanted = set(numbers)
    for start, stop in spans:
        if stop - start >= LARGE_BLOB_BYTES:
            chunks = reader.chunk_span(start, stop)
            if (reader.chunk_start(chunks.start), reader.chunk_start(chunks.stop)) != (start, stop):
                return numbers  # Another writer's: what has parts in one chunk must come in order.
            if chunks.start in wanted:
                files.append(chunks)
    return list(take_turns(numbers, files, jobs // 2))
