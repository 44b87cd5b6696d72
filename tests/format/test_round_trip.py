"""Writer and reader together: what goes in comes out, the same bytes each time, open to stock tools."""

from __future__ import annotations

import errno
import io
import random
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler.errors import IntegrityError
from bundler.format import cut, writer
from bundler.format.codec.codecs import Buffer
from bundler.format.reader import BundleReader
from bundler.format.storage.stored import OneFile
from bundler.format.tar import tar_plan
from bundler.make.pack import pack
from tests.support.bundles import blob_store, lock_of, locked_repo, tiny_bundle

NOISE = random.Random(1).randbytes((9 << 20) + 7)
FILES = {"big.safetensors": NOISE, "a.txt": b"text " * 1000, "empty": b"", "one": b"1"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path, locked_repo("org/m", FILES, aliases=["m"]), contents=FILES.values())


def test_every_blob_comes_out_as_it_went_in(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        by_path = {file.path: file for file in reader.lock.repos[0].files}
        for blob in reader.plan.layout.blobs:
            [name] = [path for path, file in by_path.items() if file.sha256 == blob.sha256]
            with reader.open_blob(blob) as stream:
                assert stream.read() == FILES[name]


def test_a_blob_can_be_read_from_its_middle(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        [blob] = [b for b in reader.plan.layout.blobs if b.size_bytes == len(NOISE)]
        with reader.open_blob(blob) as stream:
            stream.seek((4 << 20) - 3)
            assert stream.read(6) == NOISE[(4 << 20) - 3 : (4 << 20) + 3]
            stream.seek(-2, 2)
            assert stream.read() == NOISE[-2:]
            assert stream.read() == b""


def test_a_large_blob_shares_no_chunk_with_its_neighbours(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        [blob] = [b for b in reader.plan.layout.blobs if b.size_bytes == len(NOISE)]
        member = reader.member_of(blob)
        span = reader.chunk_span(member.offset, member.offset + member.size_bytes)
        assert sum(reader.index.chunks[n].raw_bytes for n in span) == len(NOISE)


def test_packing_that_fails_leaves_no_thread_at_work(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, data: Buffer, /) -> int:
            if self.tell() > 1 << 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    lock = lock_of(locked_repo("org/m", FILES))
    store = blob_store(tmp_path, FILES.values())
    # As long as the error is looked at, so are the frames that it came through.
    with pytest.raises(OSError) as caught:
        writer.write_bundle(lock, tar_plan(lock), store, Full(), jobs=4)
    assert caught.value.errno == errno.ENOSPC
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pack")] == []
    assert caught.tb is not None


def test_the_bytes_do_not_depend_on_the_number_of_jobs(tmp_path: Path) -> None:
    repo = locked_repo("org/m", FILES)
    made = [tiny_bundle(tmp_path / str(jobs), repo, contents=FILES.values(), jobs=jobs) for jobs in (1, 2, 5)]
    assert len({path.read_bytes() for path in made}) == 1


def test_opening_reads_only_the_end_of_the_file(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = OneFile.read_into
    monkeypatch.setattr(
        OneFile, "read_into", lambda self, start, part: read.append(len(part)) or original(self, start, part)
    )
    with BundleReader(bundle) as reader:
        assert reader.name == "tiny"
    assert sum(read) < 10_000


def test_stock_zstd_tar_and_sha256sum_take_it(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(["zstd", "-tq", bundle], check=True)
    done = subprocess.run(["tar", "--zstd", "-xf", bundle, "-C", home], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "bundles/tiny.sha256"], cwd=home, check=True)
    snapshot = home / "hub" / "models--m" / "snapshots" / ("c" * 40)
    assert {name: (snapshot / name).read_bytes() for name in FILES} == FILES


def test_content_that_is_not_what_the_lock_names_is_not_packed(tmp_path: Path) -> None:
    lock = lock_of(locked_repo("org/m", FILES))
    blob_path = blob_store(tmp_path / "store", FILES.values())
    [file] = [f for f in lock.repos[0].files if f.path == "big.safetensors"]
    flipped = bytearray(NOISE)
    flipped[5_000_000] ^= 1
    (tmp_path / "store" / str(file.sha256)).write_bytes(flipped)
    out = tmp_path / "out" / "x.tar.zst"
    with pytest.raises(IntegrityError) as caught:
        pack(lock, blob_path, out)
    assert caught.value.exit_code == 6
    assert list(out.parent.iterdir()) == []


def test_a_file_cut_short_while_packing_is_refused(tmp_path: Path) -> None:
    lock = lock_of(locked_repo("org/m", FILES))
    blob_path = blob_store(tmp_path / "store", FILES.values())
    [file] = [f for f in lock.repos[0].files if f.path == "big.safetensors"]
    (tmp_path / "store" / str(file.sha256)).write_bytes(NOISE[:-1])
    out = tmp_path / "out" / "x.tar.zst"
    with pytest.raises(IntegrityError) as caught:
        pack(lock, blob_path, out)
    assert caught.value.exit_code == 6
    assert list(out.parent.iterdir()) == []


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 400)), max_size=6))
def test_any_files_come_out_as_they_went_in_whatever_the_chunk_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: list[tuple[bytes, int]]
) -> None:
    # Chunks of 700 bytes make every boundary case come up with small files.
    monkeypatch.setattr(cut, "CHUNK_BYTES", 700)
    monkeypatch.setattr(cut, "LARGE_BLOB_BYTES", 256)
    files = {f"f{i}": piece * count for i, (piece, count) in enumerate(pieces)}
    path = tiny_bundle(tmp_path, locked_repo("org/m", files), contents=files.values())
    with BundleReader(path) as reader:
        whole = b"".join(bytes(raw) for _, raw in reader.chunks(range(len(reader.index.chunks)), jobs=2))
        for member in reader.plan.members:
            if member.blob:
                content = whole[member.offset : member.offset + member.size_bytes]
                assert content in files.values()
                with reader.open_blob(member.blob) as stream:
                    assert stream.read() == content


def test_chunks_cover_the_stream_without_gap(tmp_path: Path) -> None:
    lock = lock_of(locked_repo("org/m", FILES))
    plan = tar_plan(lock)
    sizes = [chunk.size_bytes for chunk in cut.cut_into_chunks(plan)]
    assert sum(sizes) == plan.size_bytes
    assert max(sizes) <= cut.CHUNK_BYTES
