"""A bundle that passes by once: front to back, in whatever steps it comes, each byte checked, memory bounded."""

from __future__ import annotations

import io
import random
import struct
import threading
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from bundler.errors import DamagedError, FormatError
from bundler.files.digest import blake3_bytes
from bundler.format import cut
from bundler.format.index import ChunkRecord, chunk_header
from bundler.format.reader import BundleReader
from bundler.format.source import Take
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import VolumeDestination
from bundler.format.stream import BundleStream
from bundler.format.tar import BLOCK
from bundler.make.delta import Base
from bundler.make.pack import pack
from tests.hostile.forge import one_frame
from tests.support.bundle_parts import Parts, flipped, taken_apart
from tests.support.bundles import blob_store, collect, lock_of, locked_repo
from tests.support.chunked import CHUNK_BYTES, FILES, LOCK, STREAM, chunked_bundle
from tests.support.messages import Told

M = 1 << 20
ALL = [(0, len(STREAM))]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    return taken_apart(chunked_bundle(tmp_path, monkeypatch).read_bytes())


@pytest.fixture
def starts(parts: Parts) -> list[int]:
    """Where each chunk starts in the tar stream, by the raw sizes in their headers."""
    sizes = [struct.unpack_from("<I", chunk, 16)[0] for chunk in parts.chunks]
    return [sum(sizes[:number]) for number in range(len(sizes) + 1)]


class Trickle(io.RawIOBase):
    """A stream that hands on a few bytes at a time, and knows how far it was read."""

    def __init__(self, content: bytes, steps: Callable[[], int] = lambda: 1 << 30) -> None:
        self._content = memoryview(content)
        self._steps = steps
        self.position = 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self._content[self.position : self.position + min(len(buffer), self._steps())]
        buffer[: len(part)] = part
        self.position += len(part)
        return len(part)


def read_through(content: bytes, wanted: list[tuple[int, int]] = ALL, jobs: int = 1) -> list[tuple[int, bytes]]:
    found: dict[int, bytes] = {}
    collect(BundleStream(io.BytesIO(content)), wanted, jobs, found)
    return sorted(found.items())


@pytest.mark.parametrize("jobs", [1, 3])
def test_all_of_the_tar_stream_comes_run_by_run(parts: Parts, starts: list[int], jobs: int) -> None:
    expected = [(a, STREAM[a:b]) for a, b in pairwise(starts)]
    assert read_through(parts.joined(), jobs=jobs) == expected


def test_only_chunks_that_hold_some_of_what_is_wanted_come_each_once(parts: Parts, starts: list[int]) -> None:
    wanted = [(starts[1], starts[1] + 1), (starts[2] - 1, starts[3] + 1), (starts[5], starts[5])]
    assert read_through(parts.joined(), wanted) == [
        (starts[n], STREAM[starts[n] : starts[n + 1]]) for n in (1, 2, 3)
    ]
    assert read_through(parts.joined(), []) == []


def test_damage_is_found_in_a_chunk_that_nobody_wants(parts: Parts, starts: list[int]) -> None:
    content = parts.with_chunk(4, flipped(parts.chunks[4], -1)).joined()
    with pytest.raises(DamagedError) as caught:
        read_through(content, [(starts[1], starts[2])])
    assert (caught.value.chunk, caught.value.exit_code) == (4, 6)


def test_the_lock_is_known_before_what_follows_it_has_come(parts: Parts) -> None:
    source = Trickle(parts.joined())
    stream = BundleStream(source, "a pipe")
    assert (stream.label, stream.lock, stream.omitted, stream.base) == ("a pipe", LOCK, None, None)
    assert stream.plan.size_bytes == len(STREAM)
    # One block behind the lock tells whether this is a delta.
    lock_end = BLOCK + len(LOCK.dumps()) + BLOCK
    chunks = -(-lock_end // CHUNK_BYTES) + 1
    assert source.position <= parts.chunk_end(chunks)
    assert source.position < len(parts.joined()) // 2


def test_the_digest_is_that_of_the_index_at_its_end(parts: Parts) -> None:
    stream = BundleStream(io.BytesIO(parts.joined()))
    collect(stream, [], 1)
    assert stream.digest == f"sha256:{sha256(parts.index[8:-48]).hexdigest()}"


def test_a_delta_says_what_it_omits_at_its_start_and_its_base_at_its_end(parts: Parts, tmp_path: Path) -> None:
    store = blob_store(tmp_path / "more", [*FILES.values(), b"new"])
    lock = lock_of(locked_repo("org/m", FILES | {"new.txt": b"new"}), name="next")
    base = Base.open(tmp_path / "tiny.tar.zst")
    path = pack(lock, store, tmp_path / "next.tar.zst", base=base).path
    stream = BundleStream(io.BytesIO(path.read_bytes()))
    assert stream.omitted == {sha256(content).hexdigest() for content in FILES.values()}
    assert stream.base is None
    collect(stream, [], 1)
    with BundleReader(path) as reader:
        assert stream.base == reader.base
        assert (stream.plan, stream.digest) == (reader.plan, reader.digest)
        whole = pack(lock, store, tmp_path / "whole.tar.zst")
        assert stream.whole_digest == reader.whole_digest == whole.digest != stream.digest


@pytest.mark.parametrize("steps", ["one byte", "odd steps"])
def test_the_steps_in_which_it_comes_make_no_difference(parts: Parts, steps: str) -> None:
    sizes = random.Random(5)
    source = Trickle(parts.joined(), (lambda: 1) if steps == "one byte" else (lambda: sizes.randint(1, 3000)))
    assert collect(BundleStream(source), ALL, 2) == STREAM


def test_closing_leaves_the_stream_open(parts: Parts) -> None:
    source = io.BytesIO(parts.joined())
    BundleStream(source).close()
    assert not source.closed


def test_what_came_whole_before_it_broke_off_is_handed_on(parts: Parts, starts: list[int], told: Told) -> None:
    end = parts.chunk_end(4) + 10
    found: dict[int, bytes] = {}
    with pytest.raises(FormatError) as caught:
        collect(BundleStream(io.BytesIO(parts.joined()[:end]), "a pipe"), ALL, 3, found)
    assert found == {starts[n]: STREAM[starts[n] : starts[n + 1]] for n in range(5)}
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    told("stream", "it breaks off in a chunk", caught.value, end=f"{end:,}")
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("unpack")] == []


def test_a_stream_that_breaks_off_anywhere_is_refused(parts: Parts) -> None:
    content = parts.joined()
    ends = {
        0,
        *range(1, len(content), 61),
        *(parts.chunk_end(n) for n in range(len(parts.chunks))),
        len(content) - 1,
    }
    for end in sorted(ends):
        with pytest.raises(FormatError) as caught:
            read_through(content[:end])
        assert (type(caught.value), caught.value.exit_code) == (FormatError, 7), f"cut at {end}"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_damaged_chunk_is_named_and_all_before_it_were_handed_on(
    parts: Parts, starts: list[int], told: Told, jobs: int
) -> None:
    content = parts.with_chunk(5, flipped(parts.chunks[5], -1)).joined()
    found: dict[int, bytes] = {}
    with pytest.raises(DamagedError) as caught:
        collect(BundleStream(io.BytesIO(content), "a pipe"), ALL, jobs, found)
    assert sorted(found)[:5] == starts[:5]
    assert starts[5] not in found
    # Another thread may have been at the next already.
    assert len(found) <= 4 + jobs
    assert (caught.value.chunk, caught.value.exit_code) == (5, 6)
    told("stream", "a chunk is damaged", caught.value, size=len(parts.chunks[5]) - 56)


def test_a_bit_flipped_anywhere_is_refused(parts: Parts) -> None:
    content = parts.joined()
    places = {*range(0, len(content), 53), *range(70), *range(len(content) - len(parts.index), len(content))}
    for position in sorted(places):
        with pytest.raises(FormatError):
            read_through(flipped(content, position))


def _other_index(parts: Parts) -> bytes:
    """The index of a bundle whose chunks come in another order."""
    records = bytearray(parts.index[8:-48])
    first, second = (len(records) - 44 * n for n in (2, 1))
    records[first:second], records[second:] = records[second:], records[first:second]
    return parts.index[:8] + bytes(records) + sha256(records).digest() + parts.index[-16:]


REFUSED: dict[str, Callable[[Parts], bytes]] = {
    "nothing comes": lambda parts: b"",
    "another kind of file comes": lambda parts: b"PK\x03\x04 and so on",
    "a plain zstd file comes": lambda parts: one_frame(STREAM),
    "chunks are swapped": lambda parts: (
        parts.with_chunk(2, parts.chunks[3]).with_chunk(3, parts.chunks[2]).joined()
    ),
    "a chunk is left out": lambda parts: Parts(
        parts.preamble, parts.chunks[:3] + parts.chunks[4:], parts.index
    ).joined(),
    "the index is of other chunks": lambda parts: parts.with_index(_other_index(parts)).joined(),
    "the index comes at once": lambda parts: parts.preamble + parts.index,
    "the index is missing": lambda parts: parts.with_index(b"").joined(),
    "something follows": lambda parts: parts.joined() + b"\n",
    "two bundles come": lambda parts: parts.joined() * 2,
    "the index claims gigabytes": lambda parts: parts.with_index(
        parts.index[:4] + b"\xff\xff\xff\xff" + parts.index[8:]
    ).joined(),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_one_whole_bundle_is_refused(parts: Parts, kind: str, told: Told) -> None:
    content = REFUSED[kind](parts)
    with pytest.raises(FormatError) as caught:
        collect(BundleStream(io.BytesIO(content), "a pipe"), ALL, 1)
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    # What zstd makes of the chunks differs between its releases.
    sizes = {"sent": f"{len(content):,}"} if len(content) > 500 else {}
    told("stream", kind, caught.value, **sizes)


def test_a_size_that_it_claims_is_not_believed(parts: Parts) -> None:
    header = b"bundles/x.lock".ljust(124, b"\0") + b"77777777777\0" + bytes(512 - 136)
    frames = one_frame(header)
    lock_of_gigabytes = (
        parts.preamble + chunk_header(ChunkRecord(0, 512, len(frames), blake3_bytes(frames))) + frames
    )
    chunk_of_gigabytes = parts.preamble + parts.chunks[0][:20] + b"\xff\xff\xff\xff" + parts.chunks[0][24:]
    index_of_gigabytes = REFUSED["the index claims gigabytes"](parts)
    for content in (lock_of_gigabytes, chunk_of_gigabytes, index_of_gigabytes):
        tracemalloc.start()
        try:
            with pytest.raises(FormatError) as caught:
                read_through(content)
            assert caught.value.exit_code == 7
            assert tracemalloc.get_traced_memory()[1] < 2 * M
        finally:
            tracemalloc.stop()


def _volumes(bundle: Path, folder: Path) -> list[bytes]:
    destination = VolumeDestination(folder / "x.tar.zst", 9_000)
    with BundleReader(bundle) as reader:
        copy_bundle(reader, destination)
    return [path.read_bytes() for path in destination.volumes]


def test_volumes_one_after_the_other_are_the_bundle(parts: Parts, tmp_path: Path) -> None:
    volumes = _volumes(tmp_path / "tiny.tar.zst", tmp_path / "volumes")
    assert len(volumes) > 2
    assert read_through(b"".join(volumes)) == read_through(parts.joined())


ORDERS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a volume is left out": lambda volumes: [volumes[0], *volumes[2:]],
    "the first volume is missing": lambda volumes: volumes[1:],
    "a volume comes twice": lambda volumes: [volumes[0], *volumes],
    "volumes are swapped": lambda volumes: [volumes[0], volumes[2], volumes[1], *volumes[3:]],
    "the last volume is missing": lambda volumes: volumes[:-1],
    "a volume follows the last": lambda volumes: [*volumes, volumes[0]],
}


@pytest.mark.parametrize("order", ORDERS)
def test_volumes_in_another_order_are_refused(parts: Parts, tmp_path: Path, order: str, told: Told) -> None:
    made = _volumes(tmp_path / "tiny.tar.zst", tmp_path / "volumes")
    volumes = ORDERS[order](made)
    with pytest.raises(FormatError) as caught:
        collect(BundleStream(io.BytesIO(b"".join(volumes)), "a pipe"), ALL, 1)
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    # Where zstd's chunks let volumes be cut differs between its releases; FORMAT.md has the place of `start`.
    starts = {f"start_of_{n}": struct.unpack_from("<Q", volume, 33)[0] for n, volume in enumerate(made[1:], 2)}
    told("stream", order, caught.value, sent=f"{sum(map(len, volumes)):,}", **starts)


def test_memory_stays_bounded_whatever_passes_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "CHUNK_BYTES", 64 << 10)
    content = random.Random(6).randbytes(16 * M)
    lock = lock_of(locked_repo("org/m", {"w": content}, lfs=["w"]))
    path = pack(lock, blob_store(tmp_path / "store", [content]), tmp_path / "big.tar.zst").path
    counted = 0

    def count(start: int, stop: int) -> Take:
        nonlocal counted
        counted += stop - start
        return lambda raw, done: done()

    with path.open("rb", buffering=0) as source:
        tracemalloc.start()
        try:
            stream = BundleStream(source)
            stream.hand_out([(0, stream.plan.size_bytes)], count, jobs=2)
            assert tracemalloc.get_traced_memory()[1] < 3 * M
        finally:
            tracemalloc.stop()
    assert counted == stream.plan.size_bytes
