"""A reader opens nothing but one whole bundle of its version, and hands out no byte that was not checked."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from bundler.errors import DamagedError, FormatError
from bundler.files.digest import blake3_bytes
from bundler.format.index import PREAMBLE, ChunkRecord, Index, chunk_header, index_frame
from bundler.format.reader import BundleReader
from bundler.format.tar import BLOCK
from bundler.plan.lock import Lock
from tests.hostile.forge import forge, one_frame
from tests.support.bundle_parts import Parts, flipped, taken_apart
from tests.support.chunked import LOCK, STREAM, chunked_bundle, is_open
from tests.support.messages import Told


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return chunked_bundle(tmp_path, monkeypatch)


def refused(path: Path, content: bytes) -> FormatError:
    """Assert that opening this content is refused with exit code 7, no file left open, and return the error."""
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        BundleReader(path)
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    assert caught.value.message.startswith(f"{path}: ")
    assert not is_open(path)
    return caught.value


@pytest.mark.parametrize(
    "position",
    [
        pytest.param(0, id="in its header"),
        pytest.param(30, id="in its digest"),
        pytest.param(-1, id="in its frames"),
    ],
)
def test_a_damaged_chunk_is_refused_by_number_and_the_others_are_read(bundle: Path, position: int) -> None:
    parts = taken_apart(bundle.read_bytes())
    bundle.write_bytes(parts.with_chunk(2, flipped(parts.chunks[2], position)).joined())
    with BundleReader(bundle) as reader:
        starts = reader.index.raw_starts()
        for read in (
            lambda: reader.chunk(2),
            lambda: reader.stored_chunk(2),
            lambda: reader.read(starts[2], 1),
            lambda: list(reader.chunks(range(4), jobs=2)),
        ):
            with pytest.raises(DamagedError) as caught:
                read()
            assert (caught.value.chunk, caught.value.exit_code) == (2, 6)
            assert caught.value.message.startswith(f"{bundle}: chunk 2 ")
        assert reader.read(0, starts[2]) == STREAM[: starts[2]]
        assert reader.read(starts[3], len(STREAM) - starts[3]) == STREAM[starts[3] :]


def test_chunks_before_a_damaged_one_are_yielded(bundle: Path) -> None:
    parts = taken_apart(bundle.read_bytes())
    bundle.write_bytes(parts.with_chunk(3, flipped(parts.chunks[3], -1)).joined())
    seen = []
    with BundleReader(bundle) as reader, pytest.raises(DamagedError):
        for number, _ in reader.chunks(range(len(parts.chunks)), jobs=2):
            seen.append(number)
    assert seen == [0, 1, 2]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("unpack")] == []


def test_a_bundle_whose_lock_is_damaged_opens_and_has_no_lock(bundle: Path) -> None:
    parts = taken_apart(bundle.read_bytes())
    bundle.write_bytes(parts.with_chunk(0, flipped(parts.chunks[0], -1)).joined())
    with BundleReader(bundle) as reader:
        assert reader.name == "tiny"
        for attribute in ("lock", "plan"):
            with pytest.raises(DamagedError) as caught:
                getattr(reader, attribute)
            assert caught.value.chunk == 0


def test_frames_that_decode_to_another_length_are_damage(tmp_path: Path) -> None:
    raw = LOCK.dumps().encode()
    for raw_bytes in (len(raw) - 1, len(raw) + 1):
        path = forge(
            tmp_path / "x", name="tiny", lock_text=raw, stream=b"", stored=one_frame(raw), raw_bytes=raw_bytes
        )
        with BundleReader(path) as reader, pytest.raises(DamagedError) as caught:
            reader.chunk(0)
        assert caught.value.chunk == 0


def test_a_lock_that_is_not_the_one_of_the_index_is_refused(tmp_path: Path, told: Told) -> None:
    text = LOCK.dumps().encode()
    path = forge(tmp_path / "x", name="tiny", lock_text=text, stream=STREAM.replace(b'"org/m"', b'"org/n"'))
    with BundleReader(path) as reader, pytest.raises(FormatError) as caught:
        _ = reader.lock
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    told("reader", "a lock that is not the one of the index", caught.value, path=path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("other", LOCK.dumps().encode(), id="of another bundle"),
        pytest.param("tiny", LOCK.dumps().replace(": 1,", ":  1,", 1).encode(), id="not canonical"),
        pytest.param("tiny", b"\xff" + LOCK.dumps().encode(), id="not UTF-8"),
    ],
)
def test_a_lock_inside_that_is_not_as_packed_is_refused(tmp_path: Path, name: str, text: bytes) -> None:
    assert (name, text) != ("tiny", LOCK.dumps().encode())
    path = forge(tmp_path / "x", name=name, lock_text=text, stream=bytes(BLOCK) + text)
    with BundleReader(path) as reader, pytest.raises(FormatError) as caught:
        _ = reader.lock
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)


def test_a_bundle_cut_short_anywhere_is_not_opened(bundle: Path, tmp_path: Path) -> None:
    content = bundle.read_bytes()
    for size in [*range(200), *range(200, len(content), 97), len(content) - 1]:
        refused(tmp_path / "cut", content[:size])


def test_a_bit_flipped_anywhere_in_the_index_is_found_on_opening(bundle: Path, tmp_path: Path) -> None:
    parts = taken_apart(bundle.read_bytes())
    for position in range(len(parts.index)):
        refused(tmp_path / "flipped", parts.with_index(flipped(parts.index, position)).joined())


def _other_version(parts: Parts, version: int, *, payload: bool, trailer: bool) -> bytes:
    """The index with `version` in one of its places or both, its digest made right."""
    body = bytearray(parts.index[8:-48])
    _, size, _, magic = struct.unpack("<32sII8s", parts.index[-48:])
    if payload:
        struct.pack_into("<I", body, 4, version)
    tail = struct.pack("<32sII8s", sha256(body).digest(), size, version if trailer else 1, magic)
    return parts.with_index(parts.index[:8] + bytes(body) + tail).joined()


# Version 2 is that of deltas, and 3 of differences: this bundle is whole, and has none.
@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize(("payload", "trailer"), [(True, True), (True, False), (False, True)])
def test_a_bundle_of_another_version_is_not_opened(
    bundle: Path, tmp_path: Path, version: int, payload: bool, trailer: bool, told: Told
) -> None:
    parts = taken_apart(bundle.read_bytes())
    assert _other_version(parts, 2, payload=False, trailer=False) == parts.joined(), (
        "nothing but the version differs"
    )
    path = tmp_path / "other"
    error = refused(path, _other_version(parts, version, payload=payload, trailer=trailer))
    if payload and trailer and version == 4:
        told("reader", "another version", error, path=path)


REFUSED: dict[str, Callable[[Parts], bytes]] = {
    "an empty file": lambda parts: b"",
    "the first bytes of a bundle": lambda parts: parts.preamble[:5],
    "a plain zstd file": lambda parts: one_frame(b"content"),
    "another kind of file": lambda parts: b"PK\x03\x04 and so on",
    "a bundle cut short": lambda parts: parts.joined()[:-20],
    "a bundle with something behind it": lambda parts: parts.joined() + b"\n",
    "an index alone": lambda parts: parts.preamble + parts.index,
    "a bundle that lacks a chunk": lambda parts: Parts(parts.preamble, parts.chunks[1:], parts.index).joined(),
    "an index that claims more than there is": lambda parts: (
        parts.joined()[:-16] + struct.pack("<I", 1 << 31) + parts.joined()[-12:]
    ),
    "an index too short to be one": lambda parts: (
        parts.joined()[:-16] + struct.pack("<I", 50) + parts.joined()[-12:]
    ),
    "a damaged index": lambda parts: parts.with_index(flipped(parts.index, 30)).joined(),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_is_not_one_whole_bundle_is_not_opened(
    bundle: Path, tmp_path: Path, kind: str, told: Told
) -> None:
    path = tmp_path / "x"
    parts = taken_apart(bundle.read_bytes())
    content = REFUSED[kind](parts)
    error = refused(path, content)
    # What zstd makes of the chunks differs between its releases.
    sizes = {"found_bytes": len(content), "whole_bytes": len(parts.joined())} if len(content) > 500 else {}
    told("reader", kind, error, path=path, **sizes)


def test_there_must_be_a_file(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none", tmp_path / "none" / "x"):
        with pytest.raises(FormatError) as caught:
            BundleReader(place)
        assert caught.value.exit_code == 7
        assert caught.value.message.startswith(f"{place}: ")


def test_an_index_whose_chunks_are_more_than_its_stream_is_refused(tmp_path: Path) -> None:
    frames = one_frame(STREAM)
    record = ChunkRecord(0, len(STREAM), len(frames), blake3_bytes(frames))
    text = LOCK.dumps().encode()
    index = Index("tiny", len(text), sha256(text).hexdigest(), len(STREAM) - 1, (record,))
    refused(tmp_path / "x", PREAMBLE + chunk_header(record) + frames + index_frame(index))


def test_a_stream_longer_than_the_lock_asks_for_is_refused(tmp_path: Path, told: Told) -> None:
    path = forge(tmp_path / "x", name="tiny", lock_text=LOCK.dumps().encode(), stream=STREAM + bytes(BLOCK))
    with BundleReader(path) as reader:
        assert isinstance(reader.lock, Lock)
        with pytest.raises(FormatError) as caught:
            _ = reader.plan
    assert caught.value.exit_code == 7
    told("reader", "a stream longer than the lock asks for", caught.value, path=path)
