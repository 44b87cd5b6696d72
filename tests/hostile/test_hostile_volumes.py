"""Sets of volumes that are not what they should be: each fault is named, and nothing is installed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.errors import DamagedError, FormatError
from bundler.format.reader import BundleReader
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import VolumeDestination
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader, parse_volume_head
from bundler.home.installation.install import install
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.messages import Told

LIMIT = 5_000_000


def _volumes(folder: Path, seed: int = 0, limit: int = LIMIT) -> list[Path]:
    files = {"w": random.Random(seed).randbytes(9 << 20)}
    bundle = tiny_bundle(folder / f"made-{seed}", locked_repo("org/m", files), contents=files.values())
    destination = VolumeDestination(folder / f"set-{seed}-{limit}" / "tiny.tar.zst", limit)
    with BundleReader(bundle) as reader:
        copy_bundle(reader, destination)
    return destination.volumes


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return _volumes(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def volumes(pristine: list[Path], tmp_path: Path) -> list[Path]:
    folder = tmp_path / "set"
    shutil.copytree(pristine[0].parent, folder)
    return [folder / path.name for path in pristine]


def _delete(volumes: list[Path], folder: Path) -> None:
    volumes[1].unlink()


def _delete_first(volumes: list[Path], folder: Path) -> None:
    volumes[0].unlink()


def _stale(volumes: list[Path], folder: Path) -> None:
    volumes[2].write_bytes(_volumes(folder, seed=1)[2].read_bytes())


def _stale_fourth(volumes: list[Path], folder: Path) -> None:
    volumes[0].with_suffix(".004").write_bytes(_volumes(folder, seed=1)[2].read_bytes())


def _swap(volumes: list[Path], folder: Path) -> None:
    first, second = volumes[1].read_bytes(), volumes[2].read_bytes()
    volumes[1].write_bytes(second)
    volumes[2].write_bytes(first)


def _twice(volumes: list[Path], folder: Path) -> None:
    volumes[0].with_suffix(".004").write_bytes(volumes[1].read_bytes())


def _other_size(volumes: list[Path], folder: Path) -> None:
    volumes[1].write_bytes(_volumes(folder, limit=9_000_000)[1].read_bytes())


def _other_offsets(volumes: list[Path], folder: Path) -> None:
    # As many volumes, cut elsewhere.
    data = volumes[1].read_bytes()
    header = parse_volume_head(data[:VOLUME_HEAD_BYTES])
    fields = {**header.__dict__, "start": header.start + 100}
    volumes[1].write_bytes(VolumeHeader(**fields).pack() + data[VOLUME_HEAD_BYTES:])


def _cut_short(volumes: list[Path], folder: Path) -> None:
    volumes[1].write_bytes(volumes[1].read_bytes()[:-1])


def _cut_in_header(volumes: list[Path], folder: Path) -> None:
    volumes[1].write_bytes(volumes[1].read_bytes()[:100])


def _empty(volumes: list[Path], folder: Path) -> None:
    volumes[1].write_bytes(b"")


def _grown(volumes: list[Path], folder: Path) -> None:
    volumes[1].write_bytes(volumes[1].read_bytes() + b"x")


def _slice_of_split(volumes: list[Path], folder: Path) -> None:
    volumes[1].write_bytes(random.Random(5).randbytes(1000))


FAULTS: dict[str, Callable[[list[Path], Path], None]] = {
    "missing": _delete,
    "first missing": _delete_first,
    "stale": _stale,
    "stale and too many": _stale_fourth,
    "swapped": _swap,
    "twice": _twice,
    "of another cut": _other_size,
    "of another cut into as many": _other_offsets,
    "cut short": _cut_short,
    "cut in its header": _cut_in_header,
    "empty": _empty,
    "grown": _grown,
    "a slice made by split(1)": _slice_of_split,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("named", ["one", "all", "name"])
def test_a_set_with_a_fault_is_refused_and_the_fault_named(
    volumes: list[Path], tmp_path: Path, fault: str, named: str, told: Told
) -> None:
    whole = volumes[1].read_bytes()
    FAULTS[fault](volumes, tmp_path)
    there = sorted(volumes[0].parent.iterdir())
    place: Path | list[Path] = {"one": there[0], "all": there, "name": volumes[0].with_suffix("")}[named]
    with pytest.raises(FormatError) as caught:
        install(place, tmp_path / "home")
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    header = parse_volume_head(whole[:VOLUME_HEAD_BYTES])
    sizes = {
        "size": len(whole),
        "size_less_1": len(whole) - 1,
        "start": header.start,
        "start_plus_100": header.start + 100,
        "stop": header.stop,
        "stop_plus_100": header.stop + 100,
    }
    told("volumes", f"a volume is {fault}", caught.value, set=volumes[0].parent, **sizes)
    assert not (tmp_path / "home").exists()


def test_all_faults_are_named_at_once(volumes: list[Path], tmp_path: Path, told: Told) -> None:
    _stale_fourth(volumes, tmp_path)
    _delete(volumes, tmp_path)
    with pytest.raises(FormatError) as caught:
        BundleReader(volumes[0])
    told("volumes", "a volume is missing and another is stale", caught.value, set=volumes[0].parent)


def test_damage_that_keeps_the_size_is_found(volumes: list[Path], tmp_path: Path) -> None:
    data = bytearray(volumes[1].read_bytes())
    data[1_000_000] ^= 1
    volumes[1].write_bytes(data)
    with pytest.raises(DamagedError) as caught:
        install(volumes[0], tmp_path / "home")
    assert caught.value.exit_code == 6
    assert caught.value.message.startswith(f"{volumes[1]}: chunk {caught.value.chunk} ")
    assert not list((tmp_path / "home").rglob("refs"))


def test_a_header_that_counts_to_four_billion_costs_nothing(volumes: list[Path], told: Told) -> None:
    data = volumes[0].read_bytes()
    header = parse_volume_head(data[:VOLUME_HEAD_BYTES])
    fields = {**header.__dict__, "count": 2**32 - 1}
    volumes[0].write_bytes(VolumeHeader(**fields).pack() + data[VOLUME_HEAD_BYTES:])
    with pytest.raises(FormatError) as caught:
        BundleReader(volumes[0])
    told("volumes", "a header counts to four billion", caught.value, set=volumes[0].parent)


def test_a_volume_that_lies_about_the_digest_is_found_by_the_index(
    volumes: list[Path], tmp_path: Path, told: Told
) -> None:
    for path in volumes:
        data = path.read_bytes()
        header = parse_volume_head(data[:VOLUME_HEAD_BYTES])
        fields = {**header.__dict__, "bundle_sha256": b"x" * 32}
        path.write_bytes(VolumeHeader(**fields).pack() + data[VOLUME_HEAD_BYTES:])
    with pytest.raises(FormatError) as caught:
        install(volumes[0], tmp_path / "home")
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    told("volumes", "volumes lie about the digest of their bundle", caught.value, set=volumes[0].parent)
    assert not (tmp_path / "home").exists()
