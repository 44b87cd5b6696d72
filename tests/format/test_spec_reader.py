"""The specification is enough: a reader written from it alone takes what ours takes, and refuses what ours refuses."""

from __future__ import annotations

import ast
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bundler.format.reader import BundleReader
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import VolumeDestination
from bundler.home.installation.install import install
from bundler.make.delta import Base
from bundler.make.pack import pack
from tests.format import spec_reader
from tests.support.bundles import OTHER_COMMIT, blob_store, lock_of, locked_repo, read_content, tiny_bundle, tree
from tests.support.fine_tunes import make_weights, safetensors_bytes, tune


def weights(dtype: str, count: int) -> bytes:
    """A safetensors file with one tensor of realistic weights."""
    values = np.random.default_rng(1).standard_normal(count, np.float32) * np.float32(0.03)
    raw = values.tobytes() if dtype == "F32" else (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = json.dumps({"w": {"dtype": dtype, "shape": [count], "data_offsets": [0, len(raw)]}}).encode()
    return struct.pack("<Q", len(header)) + header + raw


FILES = {
    "bf16.safetensors": weights("BF16", 3_000_000),
    "fp32.safetensors": weights("F32", 700_001),
    "text.txt": b"text " * 10_000,
    "noise.bin": random.Random(0).randbytes(2 << 20),
    "empty": b"",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = locked_repo("org/m", FILES, aliases=["m"], absent=["none.json"], lfs=["bf16.safetensors"])
    data = locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared={"c/0.0.0/h/d.arrow": b"a" * 100})
    contents = [*FILES.values(), b"d", b"a" * 100]
    return tiny_bundle(tmp_path_factory.mktemp("spec"), model, data, contents=contents)


def test_it_extracts_what_we_install(bundle: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, spec_reader.__file__, bundle, tmp_path / "theirs"], check=True)
    install(bundle, tmp_path / "ours")
    assert read_content(tmp_path / "theirs") == read_content(tmp_path / "ours")


def test_it_extracts_a_delta_over_its_base(bundle: Path, tmp_path: Path) -> None:
    files = FILES | {"text.txt": b"new text", "new.txt": b"new"}
    lock = lock_of(locked_repo("org/m", files, commit=OTHER_COMMIT, lfs=["bf16.safetensors"]), name="delta")
    delta = tmp_path / "delta.tar.zst"
    pack(lock, blob_store(tmp_path / "store", files.values()), delta, base=Base.open(bundle))
    for file in (bundle, delta):
        spec_reader.extract(file, tmp_path / "theirs")
        install(file, tmp_path / "ours")
    snapshot = f"hub/models--org--m/snapshots/{OTHER_COMMIT}"
    assert tree(tmp_path / "theirs" / snapshot) == tree(tmp_path / "ours" / snapshot)
    assert (tmp_path / "theirs" / snapshot / "text.txt").read_bytes() == b"new text"


def test_it_extracts_differences_from_content_inside_and_from_an_installed_base(tmp_path: Path) -> None:
    words = make_weights(1)
    base, tuned, newer = (
        safetensors_bytes({"w": each}) for each in (words, tune(words, 2), tune(tune(words, 2), 3, steps=40))
    )
    names = {"a-" + "long-name-" * 7: base, "z-tuned": tuned}
    repos = [locked_repo(f"org/{name}", {"w.safetensors": each}) for name, each in names.items()]
    bundle = tiny_bundle(tmp_path, *repos, contents=[base, tuned])
    lock = lock_of(locked_repo("org/z-tuned", {"w.safetensors": newer}, commit=OTHER_COMMIT), name="next")
    delta = tmp_path / "next.tar.zst"
    pack(lock, blob_store(tmp_path / "store", [newer]), delta, base=Base.open(bundle))
    with pytest.raises(spec_reader.Refused):
        spec_reader.extract(delta, tmp_path / "alone")
    for file in (bundle, delta):
        with BundleReader(file) as reader:
            assert reader.bases
        spec_reader.extract(file, tmp_path / "theirs")
    snapshots = (tmp_path / "theirs" / "hub" / "models--org--z-tuned" / "snapshots").glob("*/w.safetensors")
    assert {path.read_bytes() for path in snapshots} == {tuned, newer}


@pytest.fixture
def volumes(bundle: Path, tmp_path: Path) -> Path:
    with BundleReader(bundle) as reader:
        copy_bundle(reader, VolumeDestination(tmp_path / "in" / bundle.name, 5 << 20))
    return tmp_path / "in" / bundle.name


def test_it_extracts_volumes(bundle: Path, volumes: Path, tmp_path: Path) -> None:
    assert not volumes.exists() and volumes.with_name(f"{volumes.name}.002").exists()
    spec_reader.extract(bundle, tmp_path / "one")
    spec_reader.extract(volumes, tmp_path / "parts")
    assert tree(tmp_path / "parts") == tree(tmp_path / "one")


@pytest.mark.parametrize("position", [0, 12, 25, 30, 40, 50, 60, 100, 130, 153, 5000])
def test_it_refuses_damage_in_a_volume(volumes: Path, position: int) -> None:
    second = volumes.with_name(f"{volumes.name}.002")
    damaged = bytearray(second.read_bytes())
    damaged[position] ^= 4
    second.write_bytes(damaged)
    with pytest.raises(spec_reader.Refused):
        spec_reader.read_file(volumes)


def test_it_refuses_a_set_that_lacks_a_volume_or_has_one_too_many(volumes: Path) -> None:
    first, second = (volumes.with_name(f"{volumes.name}.00{number}") for number in (1, 2))
    stale = volumes.with_name(f"{volumes.name}.007")
    stale.write_bytes(second.read_bytes())
    with pytest.raises(spec_reader.Refused):
        spec_reader.read_file(volumes)
    stale.unlink()
    spec_reader.read_file(volumes)
    first.unlink()
    with pytest.raises(spec_reader.Refused):
        spec_reader.read_file(volumes)


def test_it_refuses_damage_anywhere(bundle: Path) -> None:
    content = bundle.read_bytes()
    for position in [*random.Random(0).sample(range(len(content)), 12), 0, 9, len(content) - 1, len(content) - 48]:
        damaged = bytearray(content)
        damaged[position] ^= 4
        with pytest.raises(spec_reader.Refused):
            spec_reader.read_tar_stream(bytes(damaged))


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    text = Path(spec_reader.__file__).read_text()
    assert len(text.splitlines()) <= 200
    roots = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
        )
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert roots <= set(sys.stdlib_module_names) | {"numpy", "zstandard", "blake3"}
