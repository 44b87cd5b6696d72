"""Bundles that past versions wrote: every later version must install them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundler.format.reader import BundleReader
from bundler.install import install
from bundler.pack import pack
from bundler.verify.bundle_file import verify_bundle
from tests.bundles import blob_store
from tests.golden import make

GOLDEN = sorted(make.HERE.glob("*.tar.zst"))


def test_there_is_a_golden_bundle_of_this_version_with_each_codec() -> None:
    assert {make.golden_path(codec) for codec in make.CODECS} <= set(GOLDEN)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_a_golden_bundle_still_verifies_and_installs(golden: Path, tmp_path: Path) -> None:
    digest = json.loads(golden.with_suffix(".json").read_text())["digest"]
    with BundleReader(golden) as reader:
        assert reader.digest == digest
        assert verify_bundle(reader, jobs=1).ok
    installed = install(golden, tmp_path).bundle
    assert installed.verify().ok
    snapshot = installed.snapshot_path("model")
    assert {name: (snapshot / name).read_bytes() for name in make.FILES} == make.FILES
    prepared = tmp_path / "datasets" / "org___data"
    assert {name: (prepared / name).read_bytes() for name in make.PREPARED} == make.PREPARED


@pytest.mark.parametrize("codec", make.CODECS)
def test_the_same_lock_still_gives_the_same_bytes(codec: make.CodecChoice, tmp_path: Path) -> None:
    golden = make.golden_path(codec)
    made_with = json.loads(golden.with_suffix(".json").read_text())["zstd"]
    if made_with != make.zstd_version():
        pytest.skip(f"zstd {make.zstd_version()} may compress to other bytes than {made_with}")
    out = tmp_path / "again.tar.zst"
    pack(make.LOCK, blob_store(tmp_path / "store", make.CONTENTS), out, codec=codec)
    assert out.read_bytes() == golden.read_bytes()
