"""Random access to a bundle in a file: the bytes asked for, and no others."""

from __future__ import annotations

import os
import random
import threading
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from bundler.errors import BundleError, FormatError
from bundler.format.codec.codecs import PLANES2
from bundler.format.reader import BundleReader
from bundler.format.tar import BLOCK
from bundler.make.delta import Base
from bundler.make.pack import pack
from bundler.plan.layout import Blob
from tests.support.bundle_parts import flipped, taken_apart
from tests.support.bundles import blob_store, lock_of, locked_repo, tiny_bundle
from tests.support.chunked import CHUNK_BYTES, FILES, LOCK, STREAM, chunked_bundle, is_open
from tests.support.fine_tunes import make_weights, safetensors_bytes


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return chunked_bundle(tmp_path, monkeypatch)


def blob_named(reader: BundleReader, path: str) -> Blob:
    content = sha256(FILES[path]).hexdigest()
    return next(blob for blob in reader.plan.layout.blobs if blob.sha256 == content)


def test_what_the_index_says_is_there_as_soon_as_it_is_open(bundle: Path) -> None:
    content = bundle.read_bytes()
    payload = taken_apart(content).index[8:-48]
    with BundleReader(bundle) as reader:
        assert (reader.path, reader.label, reader.size_bytes) == (bundle, str(bundle), len(content))
        assert (reader.name, reader.digest) == ("tiny", f"sha256:{sha256(payload).hexdigest()}")
        assert (reader.base, reader.omitted, reader.volumes) == (None, None, [])
        assert (reader.index.tar_bytes, reader.plan.size_bytes) == (len(STREAM), len(STREAM))


def test_the_lock_inside_is_the_one_that_was_packed(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        assert reader.lock == LOCK


def test_a_delta_says_its_base_and_what_it_omits(bundle: Path, tmp_path: Path) -> None:
    store = blob_store(tmp_path / "more", [*FILES.values(), b"new"])
    lock = lock_of(locked_repo("org/m", FILES | {"new.txt": b"new"}), name="next")
    path = pack(lock, store, tmp_path / "next.tar.zst", base=Base.open(bundle)).path
    omitted = {sha256(content).hexdigest() for content in FILES.values()}
    text = "".join(f"{digest}\n" for digest in sorted(omitted)).encode()
    with BundleReader(bundle) as base, BundleReader(path) as reader:
        assert reader.omitted == omitted
        assert reader.base is not None
        assert vars(reader.base) == {
            "name": "tiny",
            "digest": base.digest,
            "omitted_bytes": len(text),
            "omitted_sha256": sha256(text).hexdigest(),
            "whole": pack(lock, store, tmp_path / "whole.tar.zst").digest,
        }


@pytest.mark.parametrize(
    ("start", "size_bytes"),
    [
        pytest.param(0, 1, id="the first byte"),
        pytest.param(BLOCK, len(LOCK.dumps()), id="the lock"),
        pytest.param(CHUNK_BYTES + 5, 2 * CHUNK_BYTES, id="across chunks"),
        pytest.param(len(STREAM) - 3, 3, id="the last bytes"),
        pytest.param(0, len(STREAM), id="all"),
        pytest.param(100, 0, id="nothing"),
        pytest.param(len(STREAM), 0, id="nothing at the end"),
    ],
)
def test_a_run_of_the_tar_stream_is_read_from_any_place(bundle: Path, start: int, size_bytes: int) -> None:
    with BundleReader(bundle) as reader:
        assert reader.read(start, size_bytes) == STREAM[start : start + size_bytes]


@pytest.mark.parametrize(("start", "size_bytes"), [(-1, 1), (0, len(STREAM) + 1), (len(STREAM), 1)])
def test_a_run_outside_the_tar_stream_is_refused(bundle: Path, start: int, size_bytes: int) -> None:
    with BundleReader(bundle) as reader:
        with pytest.raises(FormatError) as caught:
            reader.read(start, size_bytes)
        assert caught.value.exit_code == 7
        assert reader.read(0, 4) == STREAM[:4], "the reader is as good as before"


@pytest.mark.parametrize("path", FILES)
def test_one_file_is_read_whole(bundle: Path, path: str) -> None:
    with BundleReader(bundle) as reader, reader.open_blob(blob_named(reader, path)) as stream:
        assert stream.read() == FILES[path]
        assert stream.read() == b""


def test_one_file_is_read_from_where_it_is_sought(bundle: Path) -> None:
    content = FILES["large.bin"]
    with BundleReader(bundle) as reader, reader.open_blob(blob_named(reader, "large.bin")) as stream:
        assert stream.seek(CHUNK_BYTES - 3) == CHUNK_BYTES - 3
        assert stream.read(6) == content[CHUNK_BYTES - 3 : CHUNK_BYTES + 3]
        assert stream.seek(2, os.SEEK_CUR) == stream.tell() == CHUNK_BYTES + 5
        assert stream.seek(-2, os.SEEK_END) == len(content) - 2
        assert stream.read(10) == content[-2:]
        assert stream.seek(len(content) + 100) == len(content) + 100
        assert stream.read() == b""


def test_reading_one_file_touches_no_chunk_of_another(bundle: Path) -> None:
    parts = taken_apart(bundle.read_bytes())
    with BundleReader(bundle) as reader:
        member = reader.member_of(blob_named(reader, "large.bin"))
        needed = {
            *reader.chunk_span(0, BLOCK + reader.index.lock_bytes),
            *reader.chunk_span(member.offset, member.offset + member.size_bytes),
        }
    assert len(needed) < len(parts.chunks)
    for number in set(range(len(parts.chunks))) - needed:
        parts = parts.with_chunk(number, flipped(parts.chunks[number], -1))
    bundle.write_bytes(parts.joined())
    with BundleReader(bundle) as reader, reader.open_blob(blob_named(reader, "large.bin")) as stream:
        assert stream.read() == FILES["large.bin"]


def test_chunks_come_in_the_order_asked_for_whatever_the_number_of_jobs(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        starts = reader.index.raw_starts()
        last = len(reader.index.chunks) - 1
        order = [last, 0, *range(last, -1, -1), 0]
        expected = [(number, STREAM[starts[number] : starts[number + 1]]) for number in order]
        for jobs in (1, 3):
            assert [(number, bytes(raw)) for number, raw in reader.chunks(order, jobs=jobs)] == expected


def test_words_are_decoded_to_where_numpy_reads_them_whole(tmp_path: Path) -> None:
    # Their exponents take even and odd numbers of bytes.
    content = safetensors_bytes({f"{seed}": make_weights(seed, 200_000) for seed in range(6)})
    repo = locked_repo("org/m", {"model.safetensors": content}, lfs=["model.safetensors"])
    with BundleReader(tiny_bundle(tmp_path, repo, contents=[content])) as reader:
        numbers = [number for number, chunk in enumerate(reader.index.chunks) if chunk.codec == PLANES2.number]
        assert numbers
        for number in numbers:
            raw = reader.chunk(number, bytearray(reader.room_bytes(number)))
            assert np.frombuffer(raw, "<u2").flags.aligned


def test_runs_are_the_chunks_that_hold_some_of_what_is_wanted_each_once(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        starts = reader.index.raw_starts()
        # Two spans in chunk 1, one from there into chunk 3; nothing of an empty span.
        wanted = [
            (starts[1] + 1, starts[1] + 2),
            (starts[1] + 5, starts[1] + 6),
            (starts[2] - 1, starts[3] + 1),
            (starts[5], starts[5]),
        ]
        found = [(start, bytes(raw)) for start, raw in reader.runs(wanted, jobs=2)]
        assert found == [(starts[n], STREAM[starts[n] : starts[n + 1]]) for n in (1, 2, 3)]
        assert list(reader.runs([], jobs=2)) == []


def test_a_chunk_span_holds_every_byte_asked_for_and_no_chunk_beside(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        starts = reader.index.raw_starts()
        assert reader.chunk_span(starts[1], starts[2]) == range(1, 2)
        assert reader.chunk_span(starts[1] - 1, starts[2] + 1) == range(3)
        assert reader.chunk_span(7, 7) == range(0)
        assert [reader.chunk_start(number) for number in range(len(starts) - 1)] == starts[:-1]


def test_several_threads_read_at_once(bundle: Path) -> None:
    wrong: list[int] = []

    def read(reader: BundleReader, seed: int) -> None:
        places = random.Random(seed)
        for start in places.choices(range(len(STREAM) - 9), k=100):
            if reader.read(start, 9) != STREAM[start : start + 9]:
                wrong.append(start)

    with BundleReader(bundle) as reader:
        threads = [threading.Thread(target=read, args=(reader, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_closed_reader_reads_no_more_and_holds_no_file(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        assert is_open(bundle)
    assert not is_open(bundle)
    with pytest.raises(BundleError):
        reader.read(0, 1)
    reader.close()
