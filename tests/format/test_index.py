"""The bytes around the tar stream: what was written is read, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import FormatError
from bundler.format.base_records import BaseRecord, BasesRecord
from bundler.format.index import (
    FORMAT_VERSION,
    PREAMBLE,
    TRAILER_BYTES,
    ChunkRecord,
    Index,
    chunk_header,
    index_frame,
    index_frame_bytes,
    parse_chunk_header,
    parse_index_frame,
)
from tests.support.messages import Told

INDEX = Index("demo", 100, "a" * 64, 30, (ChunkRecord(0, 10, 12, b"1" * 32), ChunkRecord(0, 20, 5, b"2" * 32)))


def sha256_of(content: bytes) -> str:
    """A digest as bundles write it."""
    return f"sha256:{sha256(content).hexdigest()}"


def test_the_index_survives_its_frame() -> None:
    frame = index_frame(INDEX)
    assert index_frame_bytes(frame[-TRAILER_BYTES:]) == len(frame)
    assert parse_index_frame(frame) == INDEX


def test_a_chunk_header_survives_its_frame() -> None:
    assert parse_chunk_header(chunk_header(INDEX.chunks[0])) == INDEX.chunks[0]


def test_stock_zstd_steps_over_all_that_is_ours() -> None:
    stream = PREAMBLE + chunk_header(INDEX.chunks[0]) + zstandard.compress(b"content") + index_frame(INDEX)
    with zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True) as reader:
        assert reader.read() == b"content"


@given(st.integers(0, 10**9), st.integers(1, 255))
def test_every_flipped_bit_of_an_index_is_found(position: int, mask: int) -> None:
    frame = bytearray(index_frame(INDEX))
    frame[position % len(frame)] ^= mask
    with pytest.raises(FormatError):
        index_frame_bytes(bytes(frame[-TRAILER_BYTES:]))
        parse_index_frame(bytes(frame))


@given(st.binary(max_size=400))
def test_no_bytes_make_the_parsers_fail_in_another_way(data: bytes) -> None:
    for parse in (parse_index_frame, index_frame_bytes, parse_chunk_header):
        with pytest.raises(FormatError):
            parse(data)


@pytest.mark.parametrize(
    "record",
    [
        ChunkRecord(0, 0, 10, bytes(32)),
        ChunkRecord(0, (64 << 20) + 1, 10, bytes(32)),
        ChunkRecord(0, 10, 5000, bytes(32)),
    ],
)
def test_a_chunk_that_would_make_a_reader_allocate_too_much_is_refused(record: ChunkRecord) -> None:
    with pytest.raises(FormatError):
        parse_chunk_header(chunk_header(record))
    with pytest.raises(FormatError):
        parse_index_frame(index_frame(Index("x", 1, "a" * 64, record.raw_bytes, (record,))))


def delta_index(of: Index, **changes: object) -> Index:
    """The index of a delta that leads to the bundle of `of`."""
    base = BaseRecord("old", None, 65, "b" * 64, of.digest)
    return replace(INDEX, **{"base": base, "whole": of.payload(), **changes})  # type: ignore[arg-type]


def test_the_index_of_a_delta_carries_that_of_the_whole_bundle_and_so_its_digest() -> None:
    found = parse_index_frame(index_frame(delta_index(INDEX)))
    assert (found, found.version) == (delta_index(INDEX), 2)
    assert (found.whole_digest, found.digest == INDEX.digest) == (INDEX.digest, False)
    assert (INDEX.version, INDEX.whole_digest) == (1, INDEX.digest)


@pytest.mark.parametrize(
    "forged",
    [
        delta_index(replace(INDEX, lock_sha256="c" * 64)),
        delta_index(replace(INDEX, name="other")),
        delta_index(delta_index(INDEX)),
        delta_index(INDEX, base=BaseRecord("old", None, 65, "b" * 64, f"sha256:{'d' * 64}")),
        delta_index(INDEX, base=BaseRecord("old", None, 65, "b" * 64)),
        delta_index(INDEX, base=None),
        delta_index(INDEX, whole=b""),
        delta_index(INDEX, whole=b"short", base=BaseRecord("old", None, 65, "b" * 64, sha256_of(b"short"))),
    ],
    ids=["lock", "name", "delta", "digest", "unnamed", "no delta", "no index", "no index at all"],
)
def test_a_delta_cannot_claim_the_digest_of_another_bundle(forged: Index) -> None:
    with pytest.raises(FormatError):
        parse_index_frame(index_frame(forged))


def test_every_flipped_bit_of_the_index_of_a_delta_is_found() -> None:
    frame = index_frame(delta_index(INDEX))
    for position in range(len(frame)):
        damaged = bytearray(frame)
        damaged[position] ^= 1
        with pytest.raises(FormatError):
            index_frame_bytes(bytes(damaged[-TRAILER_BYTES:]))
            parse_index_frame(bytes(damaged))


def test_the_version_is_the_lowest_that_has_what_is_in_it() -> None:
    bases = BasesRecord(130, "e" * 64)
    near = replace(INDEX, bases=bases)
    lists = replace(near, base=BaseRecord("old", None, 65, "b" * 64, near.digest), whole=near.payload())
    by_version = {1: [INDEX], 2: [delta_index(INDEX)], 3: [near, replace(lists, bases=None), lists]}
    for version, indexes in by_version.items():
        for index in indexes:
            assert index.version == version
            assert parse_index_frame(index_frame(index)) == index


@pytest.mark.parametrize(
    "bases",
    [
        BasesRecord(-1, "e" * 64),
        BasesRecord(1 << 31, "e" * 64),
        BasesRecord("1", "e" * 64),
        BasesRecord(130, None),
    ],  # type: ignore[arg-type]
)
def test_a_list_of_bases_that_cannot_be_is_refused(bases: BasesRecord) -> None:
    with pytest.raises(FormatError):
        parse_index_frame(index_frame(replace(INDEX, bases=bases)))


def test_another_version_stops_the_reader(told: Told) -> None:
    trailer = bytearray(index_frame(INDEX)[-TRAILER_BYTES:])
    assert index_frame_bytes(bytes(trailer)) == len(index_frame(INDEX))
    trailer[36] = FORMAT_VERSION + 1
    with pytest.raises(FormatError) as caught:
        index_frame_bytes(bytes(trailer))
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    told("index", "another version", caught.value)
