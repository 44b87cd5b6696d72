"""Whether a delta needs its base, and what is said of a base that was of no use."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.cli.fetch_report import describe_base
from bundler.format.codec.codecs import CodecChoice
from bundler.home.installation.install import install
from bundler.make.delta import Base
from bundler.make.pack import pack
from tests.support.bundles import blob_store, lock_of, locked_repo
from tests.support.fine_tunes import make_weights, safetensors_bytes, tune


@pytest.mark.parametrize("codec", ["auto", "zstd"])
def test_a_base_that_was_of_no_use_is_told_from_one_that_was(tmp_path: Path, codec: CodecChoice) -> None:
    mine, other = make_weights(1), make_weights(2)
    files = {name: safetensors_bytes({"w": words}) for name, words in (("mine", mine), ("other", other))}
    files["tuned"] = safetensors_bytes({"w": tune(mine, 3)})
    store = blob_store(tmp_path / "store", list(files.values()))
    locks = {name: lock_of(locked_repo("org/m", {"w.safetensors": files[name]}), name=name) for name in files}
    pack(locks["mine"], store, tmp_path / "mine.tar.zst")
    base = Base.open(tmp_path / "mine.tar.zst")
    results = {
        name: pack(lock, store, tmp_path / f"{name}.delta.tar.zst", base=base, codec=codec)
        for name, lock in locks.items()
    }
    needing = {name for name, result in results.items() if result.needs_base}
    assert needing == ({"mine", "tuned"} if codec == "auto" else {"mine"})
    assert describe_base(base, results["mine"]).startswith("a delta: over mine (sha256:")
    assert describe_base(base, results["other"]).startswith("no delta: mine (sha256:")
    assert "; its name says delta, and may be changed. Is" in describe_base(base, results["other"])
    # As is said: it installs where the base is not.
    assert (
        install(tmp_path / "other.delta.tar.zst", tmp_path / "home").bundle.digest == results["other"].whole_digest
    )
