"""The writer alone: what goes into the file, in which order, in which chunks, with which codec; and what stops it."""

from __future__ import annotations

import errno
import io
import json
import random
import struct
import threading
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import zstandard

from bundler.errors import FormatError, IntegrityError
from bundler.format import cut, writer
from bundler.format.codec.codecs import Buffer, find_codec
from bundler.format.cut import cut_into_chunks
from bundler.format.index import Index, parse_chunk_header, parse_index_frame
from bundler.format.storage.destinations import FileDestination, VolumeDestination
from bundler.format.stream import BundleStream
from bundler.format.tar import BLOCK, tar_plan
from bundler.format.writer import write_bundle
from bundler.plan.layout import Blob
from bundler.plan.lock import Lock
from tests.support.bundle_parts import flipped, taken_apart
from tests.support.bundles import blob_store, collect, lock_of, locked_repo
from tests.support.chunked import CHUNK_BYTES, FILES, LOCK, STREAM, cut_small
from tests.support.messages import Told

M = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Callable[[Blob], Path]:
    return blob_store(tmp_path / "store", FILES.values())


def written(lock: Lock, store: Callable[[Blob], Path], **options: object) -> tuple[bytes, Index]:
    """Write a bundle into memory; return its bytes and what the writer returned."""
    sink = io.BytesIO()
    index = write_bundle(lock, tar_plan(lock), store, sink, **options)  # type: ignore[arg-type]
    return sink.getvalue(), index


def safetensors(dtype: str, size_bytes: int) -> bytes:
    """A safetensors file with one tensor of realistic weights."""
    values = np.random.default_rng(1).standard_normal(size_bytes // 4 + 1, np.float32) * np.float32(0.03)
    header = json.dumps({"w": {"dtype": dtype, "shape": [1], "data_offsets": [0, size_bytes]}}).encode()
    return struct.pack("<Q", len(header)) + header + values.tobytes()[:size_bytes]


def test_the_frames_of_the_chunks_are_the_tar_stream_in_its_order(
    store: Callable[[Blob], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch)
    content, _ = written(LOCK, store, jobs=3)
    assert len(taken_apart(content).chunks) > 6
    with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as frames:
        assert frames.read() == STREAM


def test_the_index_it_returns_is_the_one_it_wrote_and_names_each_chunk(
    store: Callable[[Blob], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch)
    content, index = written(LOCK, store)
    parts = taken_apart(content)
    assert index == parse_index_frame(parts.index)
    assert index.chunks == tuple(parse_chunk_header(chunk[:56]) for chunk in parts.chunks)
    text = LOCK.dumps().encode()
    assert (index.name, index.lock_bytes, index.lock_sha256, index.tar_bytes, index.base) == (
        "tiny",
        len(text),
        sha256(text).hexdigest(),
        len(STREAM),
        None,
    )
    assert index.digest == f"sha256:{sha256(parts.index[8:-48]).hexdigest()}"


def test_the_lock_is_alone_in_its_chunks_a_large_file_too_and_small_ones_share_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut_small(monkeypatch)
    plan = tar_plan(LOCK)
    lock, *blobs = [*plan.members][:5]
    assert {blob.size_bytes for blob in blobs} == {3 * CHUNK_BYTES + 7, CHUNK_BYTES, 4, 0}
    chunks = list(cut_into_chunks(plan))
    starts = [sum(chunk.size_bytes for chunk in chunks[:n]) for n in range(len(chunks) + 1)]
    assert starts[-1] == plan.size_bytes
    assert max(chunk.size_bytes for chunk in chunks) == CHUNK_BYTES
    assert lock.offset + lock.size_bytes + lock.padding in starts
    for blob in blobs:
        inside = [start for start in starts if blob.offset <= start <= blob.offset + blob.size_bytes]
        if blob.size_bytes >= CHUNK_BYTES:
            count = -(-blob.size_bytes // CHUNK_BYTES)
            steps = [min(n * CHUNK_BYTES, blob.size_bytes) for n in range(count + 1)]
            assert inside == [blob.offset + step for step in steps]
        else:
            assert inside == []


def test_the_omitted_list_of_a_delta_is_alone_in_its_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_small(monkeypatch)
    plan = tar_plan(LOCK, frozenset({sha256(FILES["middle.bin"]).hexdigest()}))
    lock, omitted = plan.front
    lock_end = lock.offset + lock.size_bytes + lock.padding
    sizes = [chunk.size_bytes for chunk in cut_into_chunks(plan)]
    assert sizes[:2] == [lock_end, BLOCK + omitted.size_bytes + omitted.padding]


def test_a_chunk_is_read_from_the_file_once_and_only_the_files_of_the_lock_are_read(
    store: Callable[[Blob], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    written(LOCK, lambda blob: asked.append(blob.sha256) or store(blob), codec="zstd")  # type: ignore[func-returns-value]
    assert sorted(asked) == sorted(sha256(content).hexdigest() for content in FILES.values() if content)


def test_content_that_two_files_share_is_written_once(tmp_path: Path) -> None:
    content = random.Random(3).randbytes(2 * M)
    twice = lock_of(
        locked_repo("org/a", {"w": content}, lfs=["w"]), locked_repo("org/b", {"w": content}, lfs=["w"])
    )
    once = lock_of(locked_repo("org/a", {"w": content}, lfs=["w"]))
    store = blob_store(tmp_path / "store", [content])
    assert len(written(twice, store)[0]) < len(written(once, store)[0]) + 10_000


@pytest.mark.parametrize(
    ("dtype", "choice", "expected"),
    [
        ("BF16", "auto", {"zstd", "planes2"}),
        ("F32", "auto", {"zstd", "planes4"}),
        ("I8", "auto", {"zstd"}),
        ("BF16", "zstd", {"zstd"}),
    ],
)
def test_weights_are_stored_by_the_width_of_their_words_unless_zstd_is_asked_for(
    tmp_path: Path, dtype: str, choice: str, expected: set[str]
) -> None:
    content = safetensors(dtype, 2 * M)
    lock = lock_of(locked_repo("org/m", {"m.safetensors": content, "a.txt": b"text"}, lfs=["m.safetensors"]))
    _, index = written(lock, blob_store(tmp_path / "store", [content, b"text"]), codec=choice)
    assert {find_codec(chunk.codec).name for chunk in index.chunks} == expected


def test_weights_in_a_small_file_are_stored_with_zstd(tmp_path: Path) -> None:
    content = safetensors("BF16", M // 2)
    lock = lock_of(locked_repo("org/m", {"m.safetensors": content}))
    _, index = written(lock, blob_store(tmp_path / "store", [content]))
    assert {chunk.codec for chunk in index.chunks} == {0}


def test_progress_counts_every_byte_of_the_tar_stream_chunk_by_chunk(
    store: Callable[[Blob], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch)
    seen: list[int] = []
    _, index = written(LOCK, store, jobs=2, progress=seen.append)
    assert seen == [chunk.raw_bytes for chunk in index.chunks]
    assert sum(seen) == len(STREAM)


def changed(path: Path, how: str) -> None:
    """Let the content of a stored file be another than the lock names."""
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "too short":
        path.write_bytes(content[:-1])
    else:
        path.write_bytes(flipped(content, -1))


@pytest.mark.parametrize("how", ["another byte", "too short", "gone"])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_file_that_is_not_what_the_lock_names_stops_it_and_leaves_nothing(
    tmp_path: Path, store: Callable[[Blob], Path], monkeypatch: pytest.MonkeyPatch, how: str, jobs: int, told: Told
) -> None:
    cut_small(monkeypatch)
    path = tmp_path / "store" / sha256(FILES["large.bin"]).hexdigest()
    changed(path, how)
    for destination in (
        FileDestination(tmp_path / "out" / "x.tar.zst"),
        VolumeDestination(tmp_path / "out" / "x.tar.zst", 9_000),
    ):
        with pytest.raises((IntegrityError, OSError)) as caught, destination.open() as sink:
            write_bundle(LOCK, tar_plan(LOCK), store, sink, jobs=jobs)
        assert list((tmp_path / "out").iterdir()) == []
    if how == "gone":
        assert isinstance(caught.value, FileNotFoundError) and caught.value.filename == str(path)
    else:
        assert (type(caught.value), getattr(caught.value, "exit_code", None)) == (IntegrityError, 6)
        told("writer", f"a file is packed whose content is {how}", caught.value, store=path.parent)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pack")] == []


def test_what_a_writer_that_stopped_has_written_is_no_bundle(
    tmp_path: Path, store: Callable[[Blob], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch)
    changed(tmp_path / "store" / sha256(FILES["middle.bin"]).hexdigest(), "another byte")
    sink = io.BytesIO()
    with pytest.raises(IntegrityError):
        write_bundle(LOCK, tar_plan(LOCK), store, sink)
    stream = BundleStream(io.BytesIO(sink.getvalue()))
    with pytest.raises(FormatError):
        collect(stream, [(0, len(STREAM))], 1)


class FullDisk(io.BytesIO):
    """A sink that takes so many bytes and no more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Buffer, /) -> int:
        if self.tell() + len(data) > self._limit:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("limit", [0, 100, 9_000])
def test_a_sink_that_fails_stops_it_with_its_own_error_and_no_thread_goes_on(
    store: Callable[[Blob], Path], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    cut_small(monkeypatch)
    with pytest.raises(OSError) as caught:
        write_bundle(LOCK, tar_plan(LOCK), store, FullDisk(limit), jobs=4)
    assert caught.value.errno == errno.ENOSPC
    # As long as the error is looked at, so are the frames that it came through.
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pack")] == []


def test_memory_stays_bounded_however_large_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cut, writer):
        monkeypatch.setattr(module, "CHUNK_BYTES", 64 << 10)
    content = random.Random(4).randbytes(16 * M)
    lock = lock_of(locked_repo("org/m", {"w": content}, lfs=["w"]))
    store = blob_store(tmp_path / "store", [content])
    plan = tar_plan(lock)
    with (tmp_path / "out").open("wb") as sink:
        tracemalloc.start()
        try:
            write_bundle(lock, plan, store, sink, jobs=2)
            assert tracemalloc.get_traced_memory()[1] < 2 * M
        finally:
            tracemalloc.stop()
    assert (tmp_path / "out").stat().st_size > len(content)
