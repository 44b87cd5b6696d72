"""Volumes: a bundle in several files, each checkable alone, together the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler.errors import DamagedError, FormatError, UsageError
from bundler.format.index import CHUNK_HEADER_BYTES, PREAMBLE
from bundler.format.reader import BundleReader
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import FileDestination, VolumeDestination
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader, parse_volume_head
from bundler.format.storage.volume_names import volume_base, volume_files, volume_path
from bundler.format.storage.volumes import open_stored, volumes_in
from bundler.home.installation.install import install
from bundler.verify.bundle_file import verify_bundle
from bundler.verify.volume import verify_volume
from tests.support.bundles import locked_repo, read_content, tiny_bundle, tree
from tests.support.messages import Told

NOISE = random.Random(3).randbytes(9 << 20)
FILES = {"w.safetensors": NOISE, "config.json": b"{}", "vocab.txt": b"word\n" * 1000}
LIMIT = 5_000_000


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = locked_repo("org/m", FILES, aliases=["m"], lfs=["w.safetensors"])
    return tiny_bundle(tmp_path_factory.mktemp("pristine"), model, contents=FILES.values())


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copy(pristine, tmp_path / "tiny.tar.zst")


def split(place: Path, base: Path, limit: int = LIMIT) -> list[Path]:
    """Split a bundle and return its volumes."""
    destination = VolumeDestination(base, limit, sole=False)
    with BundleReader(place) as reader:
        copy_bundle(reader, destination)
    return destination.volumes


@pytest.fixture
def volumes(bundle: Path, tmp_path: Path) -> list[Path]:
    return split(bundle, tmp_path / "media" / "tiny.tar.zst")


def test_no_volume_is_longer_than_the_limit_and_all_but_the_last_use_it(volumes: list[Path]) -> None:
    sizes = [path.stat().st_size for path in volumes]
    assert len(sizes) == 3
    assert all(size <= LIMIT for size in sizes)
    assert [path.name for path in volumes] == ["tiny.tar.zst.001", "tiny.tar.zst.002", "tiny.tar.zst.003"]


def test_a_limit_that_fits_exactly_is_used_and_one_byte_less_is_not(bundle: Path, tmp_path: Path) -> None:
    whole = bundle.stat().st_size - len(PREAMBLE) + VOLUME_HEAD_BYTES
    [only] = split(bundle, tmp_path / "a" / "x.tar.zst", whole)
    assert only.stat().st_size == whole
    two = split(bundle, tmp_path / "b" / "x.tar.zst", whole - 1)
    assert len(two) == 2
    assert all(path.stat().st_size < whole for path in two)


def test_a_limit_below_a_chunk_is_refused_with_the_size_needed_and_nothing_is_left(
    bundle: Path, tmp_path: Path, told: Told
) -> None:
    with pytest.raises(UsageError) as caught:
        split(bundle, tmp_path / "media" / "x.tar.zst", 4_000_000)
    with BundleReader(bundle) as reader:
        needed = VOLUME_HEAD_BYTES + CHUNK_HEADER_BYTES + max(chunk.stored_bytes for chunk in reader.index.chunks)
    assert caught.value.exit_code == 2
    told("volumes", "a limit below a chunk", caught.value, needed=f"{needed:,}")
    assert list((tmp_path / "media").iterdir()) == []


def test_joined_again_it_is_the_same_file(bundle: Path, volumes: list[Path], tmp_path: Path) -> None:
    with BundleReader(volumes[0]) as reader, BundleReader(bundle) as whole:
        assert (reader.digest, reader.size_bytes) == (whole.digest, whole.size_bytes)
        copy_bundle(reader, FileDestination(tmp_path / "joined", sole=False))
    assert (tmp_path / "joined").read_bytes() == bundle.read_bytes()


def test_volumes_are_cut_again_at_another_size_without_joining(
    bundle: Path, volumes: list[Path], tmp_path: Path
) -> None:
    again = split(volumes[1], tmp_path / "again" / "x.tar.zst", 20_000_000)
    direct = split(bundle, tmp_path / "direct" / "x.tar.zst", 20_000_000)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in direct]


def test_packing_into_volumes_gives_those_that_splitting_gives(volumes: list[Path], tmp_path: Path) -> None:
    from bundler.make.pack import pack
    from tests.support.bundles import blob_store, lock_of

    lock = lock_of(locked_repo("org/m", FILES, aliases=["m"], lfs=["w.safetensors"]))
    out = VolumeDestination(tmp_path / "packed" / "tiny.tar.zst", LIMIT)
    packed = pack(lock, blob_store(tmp_path / "store", FILES.values()), out)
    assert [path.read_bytes() for path in out.volumes] == [path.read_bytes() for path in volumes]
    with BundleReader(volumes) as reader:
        assert (packed.digest, packed.size_bytes) == (reader.digest, reader.size_bytes)


@pytest.mark.parametrize("named", ["first", "any", "all", "name", "joined by cat"])
def test_volumes_install_without_being_joined(
    bundle: Path, volumes: list[Path], tmp_path: Path, named: str
) -> None:
    joined = tmp_path / "cat.tar.zst"
    joined.write_bytes(b"".join(path.read_bytes() for path in volumes))
    place = {
        "first": volumes[0],
        "any": volumes[2],
        "all": [volumes[2], volumes[0], volumes[1]],
        "name": volumes[0].with_suffix(""),
        "joined by cat": joined,
    }[named]
    install(bundle, tmp_path / "expected")
    install(place, tmp_path / "home")
    assert tree(tmp_path / "home") == tree(tmp_path / "expected")
    with BundleReader(place) as reader:
        assert verify_bundle(reader, jobs=2).ok


def test_stock_tools_take_the_volumes(volumes: list[Path], tmp_path: Path) -> None:
    for path in volumes:
        subprocess.run(["zstd", "-tq", path], check=True)
    home = tmp_path / "home"
    home.mkdir()
    script = 'cat "$0".[0-9]* | zstd -dc | tar -x -C "$1"'
    subprocess.run(["bash", "-o", "pipefail", "-c", script, volumes[0].with_suffix(""), home], check=True)
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "bundles/tiny.sha256"], cwd=home, check=True)
    install(volumes[0], tmp_path / "ours")
    assert read_content(home) == read_content(tmp_path / "ours")


def test_the_header_is_what_the_specification_says(bundle: Path, volumes: list[Path]) -> None:
    # By the offsets of the table in FORMAT.md, not by our own struct.
    content = bundle.read_bytes()
    end = 9
    for number, path in enumerate(volumes, 1):
        data = path.read_bytes()
        assert data[:21] == PREAMBLE + bytes.fromhex("5B2A4D18") + struct.pack("<I", 136) + b"HFBV"
        assert struct.unpack_from("<III", data, 21) == (1, number, len(volumes))
        start, length, total = struct.unpack_from("<QQQ", data, 33)
        assert (start, total) == (end, len(content))
        assert data[57:89] == content[-48:-16]
        assert data[89:121] == blake3(data[153:]).digest()
        assert data[121:153] == blake3(data[:121]).digest()
        assert data[153:] == content[start : start + length]
        end = start + length
    assert end == len(content)


def test_each_volume_is_checked_alone(volumes: list[Path], tmp_path: Path) -> None:
    lonely = tmp_path / "alone" / volumes[1].name
    lonely.parent.mkdir()
    volumes[1].rename(lonely)
    [volume] = volumes_in(lonely)
    assert verify_volume(volume).ok
    data = bytearray(lonely.read_bytes())
    data[len(data) // 2] ^= 1
    lonely.write_bytes(data)
    [fault] = verify_volume(*volumes_in(lonely)).faults
    assert (fault.kind, fault.path) == ("changed", str(lonely))


def test_a_damaged_chunk_is_named_with_its_volume_and_not_copied(volumes: list[Path], tmp_path: Path) -> None:
    data = bytearray(volumes[1].read_bytes())
    data[len(data) // 2] ^= 1
    volumes[1].write_bytes(data)
    with BundleReader(volumes) as reader, pytest.raises(DamagedError) as caught:
        copy_bundle(reader, FileDestination(tmp_path / "copies" / "copy"))
    assert caught.value.chunk in range(1, len(reader.index.chunks))
    assert caught.value.message.startswith(f"{volumes[1]}: ")
    assert list((tmp_path / "copies").iterdir()) == []
    with BundleReader(volumes) as reader:
        [fault] = verify_bundle(reader, jobs=1).faults
    assert "org/m: w.safetensors" in fault.detail and "002" in fault.detail


@pytest.mark.parametrize("position", [0, 8, 9, 13, 17, 21, 25, 29, 33, 41, 49, 57, 89, 121, 152])
def test_every_flipped_byte_of_a_header_is_found(volumes: list[Path], position: int) -> None:
    data = bytearray(volumes[1].read_bytes())
    data[position] ^= 1
    volumes[1].write_bytes(data)
    with pytest.raises(FormatError) as caught:
        BundleReader(volumes[0])
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    assert str(volumes[1]) in caught.value.message


@given(st.binary(max_size=400))
def test_no_bytes_make_the_parser_fail_in_another_way(data: bytes) -> None:
    for text in (data, PREAMBLE + data, data[:VOLUME_HEAD_BYTES].ljust(VOLUME_HEAD_BYTES, b"\0")):
        with pytest.raises(FormatError):
            parse_volume_head(text)


@given(
    st.integers(1, 2**32 - 1).flatmap(lambda count: st.tuples(st.integers(1, count), st.just(count))),
    st.integers(9, 2**62),
    st.integers(1, 2**62),
    st.integers(1, 2**62),
)
def test_a_header_survives_its_bytes(place: tuple[int, int], start: int, length: int, rest: int) -> None:
    number, count = place
    total = start + length + (0 if number == count else rest)
    header = VolumeHeader(number, count, start, length, total, b"s" * 32, b"b" * 32)
    assert parse_volume_head(header.pack()) == header


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(4_200_000, 12_000_000), st.integers(9_973, 3_000_000))
def test_any_limit_and_any_pieces_of_writing_give_the_bundle_back(
    bundle: Path, tmp_path: Path, limit: int, step: int
) -> None:
    content = bundle.read_bytes()
    destination = VolumeDestination(tmp_path / "any" / "x.tar.zst", limit)
    with destination.open() as sink:
        for start in range(0, len(content), step):
            sink.write(content[start : start + step])
    assert all(path.stat().st_size <= limit for path in destination.volumes)
    stored = open_stored(destination.volumes)
    assert stored.read_at(0, stored.size_bytes) == content
    assert stored.read_at(5, 10) == content[5:15]


def test_a_bundle_written_byte_by_byte_is_cut_in_the_same_way(tmp_path: Path) -> None:
    content = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a"}), contents=[b"a"]).read_bytes()
    made = []
    for step in (1, len(content)):
        destination = VolumeDestination(tmp_path / str(step) / "x.tar.zst", 1000)
        with destination.open() as sink:
            for start in range(0, len(content), step):
                sink.write(content[start : start + step])
        made.append([path.read_bytes() for path in destination.volumes])
    assert len(made[0]) > 1
    assert made[0] == made[1]


def test_names_of_siblings_are_not_volumes() -> None:
    base = Path("/m/demo.tar.zst")
    assert volume_base(volume_path(base, 7, 12)) == base
    assert volume_path(base, 7, 1200).name == "demo.tar.zst.0007"
    for name in (
        "demo.tar.zst",
        "demo.tar.zst.01",
        "demo.tar.zst.sha256",
        "demo.tar.zst.001.part",
        "demo.tar.zst.a01",
    ):
        assert volume_base(base.with_name(name)) != base
    for name in ("demo.tar.zst.old.001", "demo-2.tar.zst.001", "xdemo.tar.zst.001"):
        assert volume_base(base.with_name(name)) != base


def test_files_beside_the_volumes_are_not_picked_up(bundle: Path, volumes: list[Path]) -> None:
    folder = volumes[0].parent
    split(bundle, folder / "tiny.tar.zst.old")
    split(bundle, folder / "tiny-2.tar.zst", 20_000_000)
    (folder / "tiny.tar.zst.sha256").write_text("x")
    assert volume_files(folder / "tiny.tar.zst") == volumes
    with BundleReader(volumes[0]) as reader:
        assert reader.volumes == volumes


def test_a_run_with_fewer_volumes_removes_those_of_the_run_before(bundle: Path, volumes: list[Path]) -> None:
    base = volumes[0].with_suffix("")
    kept = base.with_name(f"{base.name}.999")
    kept.write_text("not a volume")
    fewer = split(bundle, base, 9_000_000)
    assert len(fewer) == 2
    assert volume_files(base) == [*fewer, kept]
    kept.unlink()
    with BundleReader(base) as reader:
        assert verify_bundle(reader, jobs=1).ok


def test_a_bundle_fetched_as_one_file_replaces_volumes_of_its_name_and_the_other_way_round(
    bundle: Path, tmp_path: Path
) -> None:
    base = tmp_path / "out" / "x.tar.zst"
    content = bundle.read_bytes()
    for destination, expected in (
        (VolumeDestination(base, LIMIT), ["x.tar.zst.001", "x.tar.zst.002", "x.tar.zst.003"]),
        (FileDestination(base), ["x.tar.zst"]),
        (VolumeDestination(base, 9_000_000), ["x.tar.zst.001", "x.tar.zst.002"]),
    ):
        with destination.open() as sink:
            sink.write(content)
        assert sorted(path.name for path in base.parent.iterdir()) == expected


def test_a_run_that_fails_leaves_the_volumes_of_the_run_before(volumes: list[Path]) -> None:
    before = tree(volumes[0].parent)
    with (
        pytest.raises(RuntimeError),
        VolumeDestination(volumes[0].with_suffix(""), LIMIT).open() as sink,
    ):
        sink.write(volumes[0].read_bytes()[:9])
        raise RuntimeError
    assert tree(volumes[0].parent) == before


def test_what_a_killed_run_left_half_written_is_removed_by_the_next(bundle: Path, tmp_path: Path) -> None:
    base = tmp_path / "media" / "tiny.tar.zst"
    pid = os.fork()
    if pid == 0:
        with VolumeDestination(base, LIMIT).open() as sink:
            sink.write(bundle.read_bytes()[:6_000_000])
            os._exit(0)
    os.waitpid(pid, 0)
    assert all(path.name.startswith(".bundle-tmp-") for path in base.parent.iterdir())
    assert len(list(base.parent.iterdir())) == 2
    volumes = split(bundle, base)
    assert sorted(base.parent.iterdir()) == volumes
