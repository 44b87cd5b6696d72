"""Bundles in which content is stored as its difference from other content: read at random, as a stream, in volumes."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from bundler.errors import DamagedError
from bundler.format.codec.codecs import is_difference
from bundler.format.contents.files import FileContents
from bundler.format.index import FIRST_VERSION, FORMAT_VERSION
from bundler.format.reader import BundleReader
from bundler.format.stream import BundleStream
from bundler.format.summary import summarize
from bundler.make.split import join_bundle, split_bundle
from bundler.serve.source import RepoKey
from bundler.serve.sources.bundle import BundleSource
from tests.support.bundle_parts import flipped, taken_apart
from tests.support.bundles import collect, locked_repo, tiny_bundle
from tests.support.fine_tunes import make_weights, safetensors_bytes, tune

WORDS = make_weights(1)
BASE = safetensors_bytes({"layers.weight": WORDS, "norm": WORDS[:300]})
TUNED = safetensors_bytes({"layers.weight": tune(WORDS, 2), "norm": tune(WORDS[:300], 3)}, step="60")
OTHER = safetensors_bytes({"layers.weight": make_weights(9), "norm": WORDS[:300]})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repos = [locked_repo(f"org/{n}", {"model.safetensors": each}) for n, each in enumerate((BASE, TUNED))]
    return tiny_bundle(tmp_path_factory.mktemp("tuned"), *repos, contents=[BASE, TUNED])


def test_a_fine_tune_takes_a_fraction_of_what_it_would_alone(bundle: Path, tmp_path: Path) -> None:
    alone = tiny_bundle(tmp_path, locked_repo("org/0", {"model.safetensors": BASE}), contents=[BASE])
    assert bundle.stat().st_size - alone.stat().st_size < alone.stat().st_size / 3
    with BundleReader(bundle) as reader, BundleReader(alone) as other:
        base, tuned = reader.plan.layout.blobs
        assert reader.bases == {tuned.sha256: (base.sha256,)}
        assert summarize(reader).chunks["sorted2"] == 1
        assert (reader.index.version, other.index.version) == (FORMAT_VERSION, FIRST_VERSION)


def test_weights_that_are_not_near_are_stored_as_before(tmp_path: Path) -> None:
    repos = [locked_repo(f"org/{n}", {"model.safetensors": each}) for n, each in enumerate((BASE, OTHER))]
    with BundleReader(tiny_bundle(tmp_path, *repos, contents=[BASE, OTHER])) as reader:
        assert (reader.index.version, reader.bases) == (FIRST_VERSION, {})


def test_the_content_comes_back_at_any_place(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        blob = reader.plan.layout.blobs[1]
        with reader.open_blob(blob) as stream:
            for start in (len(TUNED) - 5, 0, 1_000_003):
                stream.seek(start)
                assert stream.read(1000) == TUNED[start : start + 1000]
            stream.seek(0)
            assert stream.read() == TUNED


def test_a_server_gives_it_out_of_the_bundle(bundle: Path) -> None:
    source = BundleSource(bundle)
    key = RepoKey("model", "org/1")
    content = source.open(key, source.snapshot(key, "main"), "model.safetensors")
    assert content.read_at(1_000_000, 500) == TUNED[1_000_000:1_000_500]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_stream_takes_the_base_from_elsewhere(bundle: Path, tmp_path: Path, jobs: int) -> None:
    stream = BundleStream(io.BytesIO(bundle.read_bytes()))
    (tmp_path / "base").write_bytes(BASE)
    base, tuned = stream.plan.layout.blobs
    stream.elsewhere = FileContents({base.sha256: str(tmp_path / "base")})
    found = collect(stream, [(0, stream.plan.size_bytes)], jobs)
    offset = stream.plan.first_of[tuned.sha256].offset
    assert found[offset : offset + len(TUNED)] == TUNED
    with BundleReader(bundle) as reader:
        assert (stream.digest, stream.bases) == (reader.digest, reader.bases)


def test_stock_zstd_checks_it_and_volumes_join_again(bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["zstd", "-tq", bundle], check=True)
    made = split_bundle(bundle, 3 << 19, tmp_path / "tiny.tar.zst")
    assert len(made.volumes) > 1
    with BundleReader(made.volumes) as reader, reader.open_blob(reader.plan.layout.blobs[1]) as stream:
        assert stream.read() == TUNED
    joined = join_bundle(made.volumes, tmp_path / "joined.tar.zst")
    assert joined.path.read_bytes() == bundle.read_bytes()


def test_damage_in_a_base_is_named_where_it_is(bundle: Path, tmp_path: Path) -> None:
    parts = taken_apart(bundle.read_bytes())
    with BundleReader(bundle) as reader:
        blob = reader.plan.layout.blobs[0]
        number = reader.chunk_span(reader.member_of(blob).offset + len(BASE) // 2, reader.index.tar_bytes)[0]
        difference = next(n for n, chunk in enumerate(reader.index.chunks) if is_difference(chunk.codec))
    damaged = tmp_path / "damaged.tar.zst"
    damaged.write_bytes(parts.with_chunk(number, flipped(parts.chunks[number], -1)).joined())
    with BundleReader(damaged) as reader:
        with pytest.raises(DamagedError) as caught:
            reader.chunk(difference)
        assert caught.value.chunk == number
