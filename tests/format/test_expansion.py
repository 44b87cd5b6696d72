"""What a bundle may decode to follows from its length: a reader refuses more, and a writer writes none such."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from bundler.errors import FormatError
from bundler.format.codec import expansion
from bundler.format.codec.codecs import is_difference
from bundler.format.codec.safetensors import Run
from bundler.format.contents.bases import BasePlace, BaseSpan, DifferenceRun
from bundler.format.reader import BundleReader
from bundler.format.stream import BundleStream
from bundler.format.tar import tar_plan
from bundler.format.writer import write_bundle
from bundler.plan.layout import Blob
from bundler.verify.files import verify_files
from tests.hostile import bombs
from tests.hostile.test_hostile_bases import FIRST, LOCK, ONE, SECOND, TWO, Same
from tests.support.bundles import blob_store, collect, locked_repo, tiny_bundle

ZEROS = bytes(24 << 20)


def test_content_that_shrinks_too_far_is_stored_as_it_is_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = locked_repo("org/m", {"zeros.bin": ZEROS}, lfs=["zeros.bin"])
    as_ever = tiny_bundle(tmp_path / "a", repo, contents=[ZEROS])
    assert as_ever.stat().st_size * 1000 < len(ZEROS)
    monkeypatch.setattr(expansion, "_FREE_BYTES", 8 << 20)
    monkeypatch.setattr(expansion, "MOST_TIMES", 3)
    with pytest.raises(FormatError, match="expected at most"):
        BundleReader(as_ever)
    with pytest.raises(FormatError, match="expected at most"):
        collect(BundleStream(io.BytesIO(as_ever.read_bytes())), [(0, 1 << 40)], 1)
    # A bundle of 0.1.0 may be such a one, and its user knows what is in it.
    with monkeypatch.context() as told:
        told.setenv(expansion.ALLOW, "1")
        assert verify_files(as_ever, jobs=1).ok
    packed = [tiny_bundle(tmp_path / str(jobs), repo, contents=[ZEROS], jobs=jobs) for jobs in (1, 2)]
    assert packed[0].read_bytes() == packed[1].read_bytes()
    # A chunk in four: it pays for itself and for three others.
    assert 4 << 20 < packed[0].stat().st_size < 9 << 20
    assert verify_files(packed[0], jobs=1).ok
    stream = BundleStream(io.BytesIO(packed[0].read_bytes()))
    assert len(collect(stream, [(0, 1 << 40)], 1)) == stream.plan.size_bytes


def test_differences_that_take_too_much_to_read_are_stored_without_their_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = blob_store(tmp_path / "store", [FIRST, SECOND])
    begin, step, count = 1 << 20, 4096, 64

    def runs_of(blob: Blob) -> list[Run]:
        if blob.sha256 != TWO:
            return [Run(0, blob.size_bytes, 1)]
        short = [
            DifferenceRun(start, start + step, 2, BaseSpan(BasePlace(0, start), ONE, Same()))
            for start in range(begin, begin + count * step, step)
        ]
        return [Run(0, begin, 1), *short, Run(begin + count * step, blob.size_bytes, 1)]

    def write(name: str) -> tuple[Path, int]:
        path = tmp_path / name
        with path.open("wb") as stream:
            index = write_bundle(LOCK, tar_plan(LOCK, None, {TWO: (ONE,)}), store, stream, runs_of=runs_of)
        return path, sum(is_difference(chunk.codec) for chunk in index.chunks)

    costly, differences = write("costly")
    assert differences == count
    monkeypatch.setattr(expansion, "MOST_TIMES", 4)
    monkeypatch.setattr(expansion, "_FREE_BYTES", 0)
    with BundleReader(costly) as reader, pytest.raises(FormatError, match="more to be decoded than 4 times"):
        list(reader.chunks(range(len(reader.index.chunks)), jobs=1))
    cheaper, differences = write("cheaper")
    assert 0 < differences < count
    with BundleReader(cheaper) as reader:
        assert sum(len(raw) for _, raw in reader.chunks(range(len(reader.index.chunks)), jobs=2)) > 0
        [blob] = [each for each in reader.plan.layout.blobs if each.sha256 == TWO]
        with reader.open_blob(blob) as stream:
            for _ in range(2):  # Going back begins another pass.
                stream.seek(0)
                assert len(stream.read()) == len(SECOND)


def test_a_chunk_in_far_more_blocks_than_it_needs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blocks.tar.zst"
    path.write_bytes(bombs.BUNDLES["frames of empty blocks"]())
    with BundleReader(path) as reader, pytest.raises(FormatError, match="more blocks than any writer would make"):
        reader.chunk(0)
