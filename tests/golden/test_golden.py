"""Bundles that past versions wrote: every later version must install them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundler.format.codec.codecs import SORTED2
from bundler.format.codec.words import Way
from bundler.format.reader import BundleReader
from bundler.format.storage.volume_names import volume_files
from bundler.home.installation.install import install
from bundler.verify.bundle_file import verify_bundle
from tests.golden import make
from tests.support.bundles import blob_store

# By their digests' files: volumes have no file of the bundle's name. All formats, not only this one.
GOLDEN = sorted(path.with_suffix(".zst") for path in make.HERE.glob("*.tar.json"))
DELTAS = [path for path in GOLDEN if path.name.endswith("-delta.tar.zst")]
DIFFERENCES = [path for path in GOLDEN if path.name.endswith("-differences.tar.zst")]
SORTED = [path for path in GOLDEN if path.name.endswith("-sorted.tar.zst")]
EXPONENTS = [path for path in GOLDEN if path.name.endswith("-exponents.tar.zst")]
WHOLE = [path for path in GOLDEN if path not in (*DELTAS, *DIFFERENCES, *SORTED, *EXPONENTS)]


def digest_of(golden: Path) -> str:
    return str(json.loads(golden.with_suffix(".json").read_text())["digest"])


def verify_golden(golden: Path) -> None:
    with BundleReader(golden) as reader:
        assert reader.digest == digest_of(golden)
        assert verify_bundle(reader, jobs=1).ok


def test_there_is_a_golden_bundle_of_this_version_of_each_kind() -> None:
    assert {make.golden_path(kind) for kind in make.KINDS} <= set(GOLDEN)


@pytest.mark.parametrize("golden", WHOLE, ids=lambda path: path.name)
def test_a_golden_bundle_still_verifies_and_installs(golden: Path, tmp_path: Path) -> None:
    verify_golden(golden)
    installed = install(golden, tmp_path).bundle
    assert installed.verify().ok
    snapshot = installed.snapshot_path("model")
    assert {name: (snapshot / name).read_bytes() for name in make.FILES} == make.FILES
    prepared = tmp_path / "datasets" / "org___data"
    assert {name: (prepared / name).read_bytes() for name in make.PREPARED} == make.PREPARED


@pytest.mark.parametrize("golden", DIFFERENCES, ids=lambda path: path.name)
def test_golden_differences_still_verify_and_install(golden: Path, tmp_path: Path) -> None:
    verify_golden(golden)
    with BundleReader(golden) as reader:
        assert len(reader.bases) == 3
    installed = install(golden, tmp_path).bundle
    assert installed.verify().ok
    for repo, files in make.TUNES.items():
        snapshot = installed.snapshot_path(f"org/{repo}")
        assert {name: (snapshot / name).read_bytes() for name in files} == files


@pytest.mark.parametrize("golden", SORTED, ids=lambda path: path.name)
def test_golden_sorted_differences_still_verify_and_install(golden: Path, tmp_path: Path) -> None:
    verify_golden(golden)
    with BundleReader(golden) as reader:
        assert SORTED2.number in {chunk.codec for chunk in reader.index.chunks}
    installed = install(golden, tmp_path).bundle
    assert installed.verify().ok
    for repo, files in make.SORTED.items():
        snapshot = installed.snapshot_path(f"org/{repo}")
        assert {name: (snapshot / name).read_bytes() for name in files} == files


@pytest.mark.parametrize("golden", EXPONENTS, ids=lambda path: path.name)
def test_golden_exponents_still_verify_and_install(golden: Path, tmp_path: Path) -> None:
    verify_golden(golden)
    installed = install(golden, tmp_path).bundle
    assert installed.verify().ok
    snapshot = installed.snapshot_path("org/exponents")
    assert {name: (snapshot / name).read_bytes() for name in make.EXPONENTS} == make.EXPONENTS


@pytest.mark.parametrize("delta", DELTAS, ids=lambda path: path.name)
def test_a_golden_delta_still_installs_over_its_golden_base(delta: Path, tmp_path: Path) -> None:
    verify_golden(delta)
    assert delta.stat().st_size < 10_000, "it does not carry again what its base has"
    install(make.golden_path("auto"), tmp_path)
    installed = install(delta, tmp_path).bundle
    assert installed.verify().ok
    snapshot = installed.snapshot_path("model")
    assert {path.name for path in snapshot.iterdir()} == {name.split("/")[0] for name in make.NEXT_FILES}
    assert {name: (snapshot / name).read_bytes() for name in make.NEXT_FILES} == make.NEXT_FILES


@pytest.mark.parametrize("kind", make.KINDS)
def test_the_same_lock_still_gives_the_same_bytes(way: Way, kind: str, tmp_path: Path) -> None:
    golden = make.golden_path(kind)
    made_with = json.loads(golden.with_suffix(".json").read_text())["zstd"]
    if made_with != make.zstd_version():
        pytest.skip(f"zstd {make.zstd_version()} may compress to other bytes than {made_with}")
    out = tmp_path / golden.name
    make.pack_kind(kind, blob_store(tmp_path / "store", make.CONTENTS), out)
    again, before = (volume_files(path) or [path] for path in (out, golden))
    assert [path.name for path in again] == [path.name for path in before]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in before]
