"""bundler.serve.sources.chunks: what one download has had decoded is there for the next, and few chunks are kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.errors import DamagedError
from bundler.format.codec.codecs import Buffer
from bundler.format.codec.expansion import Work
from bundler.format.reader import BundleReader
from bundler.serve.sources.chunks import SharedChunks
from tests.support.bundle_parts import flipped, taken_apart
from tests.support.chunked import STREAM, chunked_bundle


class CountingReader(BundleReader):
    """Counts how often each chunk is decoded."""

    def __init__(self, path: Path) -> None:
        self.decoded: list[int] = []
        super().__init__(path)

    def chunk(self, number: int, room: bytearray | None = None, work: Work | None = None) -> Buffer:
        self.decoded.append(number)
        return super().chunk(number, room, work)


class WaitingReader(BundleReader):
    """Decodes a chunk once so many have asked for it."""

    def __init__(self, path: Path, users: int) -> None:
        self.chunks_of: SharedChunks | None = None
        self._users_left = users
        super().__init__(path)

    def chunk(self, number: int, room: bytearray | None = None, work: Work | None = None) -> Buffer:
        shared = self.chunks_of
        if shared is not None and number in shared._chunks:
            end = time.monotonic() + 10
            while shared._chunks[number].users < self._users_left and time.monotonic() < end:
                time.sleep(0.01)
            self._users_left = min(self._users_left, 1)
        return super().chunk(number, room, work)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingReader]:
    with CountingReader(chunked_bundle(tmp_path, monkeypatch)) as opened:
        # As every source has read the lock, and what bases there are.
        opened.cost_of(0)
        opened.decoded.clear()
        yield opened


def test_any_span_is_that_of_the_tar_stream(reader: CountingReader) -> None:
    chunks = SharedChunks(reader, reader.pooled_bytes, most=2)
    for start in range(0, len(STREAM), 777):
        for size in (0, 1, 700, 5000):
            end = min(start + size, len(STREAM))
            assert chunks.read(start, end - start) == STREAM[start:end]


def test_those_who_read_the_same_at_once_have_it_decoded_once(reader: CountingReader) -> None:
    chunks = SharedChunks(reader, reader.pooled_bytes, most=len(reader.index.chunks))
    together = threading.Barrier(4, timeout=60)
    found: list[bytes] = []

    def read() -> None:
        together.wait()
        found.append(chunks.read(0, len(STREAM)))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [STREAM] * 4
    assert sorted(reader.decoded) == list(range(len(reader.index.chunks)))


def test_only_the_chunks_that_were_read_last_are_kept(reader: CountingReader) -> None:
    chunks = SharedChunks(reader, reader.pooled_bytes, most=2)
    starts = reader.index.raw_starts()
    for number in (1, 2, 1, 3, 1, 2):
        assert chunks.read(starts[number], 1) == STREAM[starts[number] : starts[number] + 1]
    assert reader.decoded == [1, 2, 3, 2]


def test_of_long_chunks_only_the_last_is_kept(reader: CountingReader) -> None:
    chunks = SharedChunks(reader, reader.pooled_bytes, most_bytes=1)
    starts = reader.index.raw_starts()
    for number in (1, 1, 2, 2, 1):
        assert chunks.read(starts[number], 1) == STREAM[starts[number] : starts[number] + 1]
    assert reader.decoded == [1, 2, 1]


def test_what_is_damaged_is_told_to_each_who_asks_and_the_rest_is_read(
    reader: CountingReader, tmp_path: Path
) -> None:
    assert isinstance(reader.path, Path)
    parts = taken_apart(reader.path.read_bytes())
    damaged = tmp_path / "damaged.tar.zst"
    damaged.write_bytes(parts.with_chunk(5, flipped(parts.chunks[5], -1)).joined())
    with BundleReader(damaged) as opened:
        chunks = SharedChunks(opened, opened.pooled_bytes)
        starts = opened.index.raw_starts()
        for _ in range(2):
            with pytest.raises(DamagedError) as caught:
                chunks.read(starts[5], 1)
            assert caught.value.chunk == 5
        assert chunks.read(starts[6], 100) == STREAM[starts[6] : starts[6] + 100]


def test_what_is_decoded_at_once_takes_no_more_memory_than_there_is(reader: CountingReader) -> None:
    most = reader.cost_of(3)[0] * 2
    chunks = SharedChunks(reader, reader.pooled_bytes, most_bytes=most)
    starts, found, used = reader.index.raw_starts(), {}, []

    def read(number: int) -> None:
        found[number] = chunks.read(starts[number], 1)
        used.append(chunks._used_bytes)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(1, len(reader.index.chunks) - 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {number: STREAM[starts[number] : starts[number] + 1] for number in found}
    assert len(found) == len(threads)
    assert max(used) <= most


def test_a_chunk_that_cannot_be_decoded_keeps_no_memory_however_many_ask_for_it(
    reader: CountingReader, tmp_path: Path
) -> None:
    assert isinstance(reader.path, Path)
    parts = taken_apart(reader.path.read_bytes())
    damaged = tmp_path / "damaged.tar.zst"
    damaged.write_bytes(parts.with_chunk(5, flipped(parts.chunks[5], -1)).joined())
    with WaitingReader(damaged, users=8) as opened:
        chunks = SharedChunks(opened, opened.pooled_bytes, most_bytes=opened.cost_of(5)[0])
        opened.chunks_of = chunks
        starts, failures = opened.index.raw_starts(), []

        def read() -> None:
            try:
                chunks.read(starts[5], 1)
            except DamagedError as error:
                failures.append(error)

        threads = [threading.Thread(target=read, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(failures) == len(threads)
        assert (chunks._used_bytes, len(chunks._chunks)) == (0, 0)
        assert chunks.read(starts[6], 100) == STREAM[starts[6] : starts[6] + 100]
