"""Which bundle is meant by what was named, or by the folder that holds one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import FormatError
from bundler.format.find import find_bundle, find_only_bundle, read_digest
from bundler.format.reader import BundleReader
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import VolumeDestination
from bundler.format.summary import summarize
from tests.support.bundles import locked_repo, tiny_bundle

CONTENTS = {"config.json": b"{}", "vocab.txt": b"a\nb\n" * 3_000_000}


def make_bundle(folder: Path, contents: dict[str, bytes] = CONTENTS) -> Path:
    folder.mkdir(exist_ok=True)
    return tiny_bundle(folder, locked_repo("org/m", contents), contents=contents.values())


def split(bundle: Path) -> list[Path]:
    destination = VolumeDestination(bundle, 1000, sole=False)
    with BundleReader(bundle) as reader:
        copy_bundle(reader, destination)
    return destination.volumes


def test_one_path_is_taken_as_it_is_several_are_volumes_and_a_folder_is_looked_into(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    assert find_bundle([tmp_path / "not-there.zst"]) == tmp_path / "not-there.zst"
    assert find_bundle([tmp_path / "a", tmp_path / "b"]) == [tmp_path / "a", tmp_path / "b"]
    assert find_bundle([tmp_path]) == bundle


def test_no_name_means_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert find_bundle([]) == Path(bundle.name)


def test_none_and_several_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as none:
        find_only_bundle(tmp_path)
    assert none.value.message.endswith("found none")
    make_bundle(tmp_path).rename(tmp_path / "a.tar.zst")
    make_bundle(tmp_path).rename(tmp_path / "b.tar.zst")
    with pytest.raises(FormatError) as several:
        find_only_bundle(tmp_path)
    assert several.value.message.endswith("found a.tar.zst, b.tar.zst")


def test_volumes_beside_a_file_must_be_of_the_same_bundle(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    volumes = split(bundle)
    assert find_only_bundle(tmp_path) == bundle
    bundle.unlink()
    assert find_only_bundle(tmp_path) == bundle, "the name that the volumes have in common"
    make_bundle(tmp_path / "other", {"config.json": b"[]"}).rename(bundle)
    with pytest.raises(FormatError) as differing:
        find_only_bundle(tmp_path)
    assert volumes[0].name in str(differing.value.hint)


def test_a_file_its_volumes_together_and_each_volume_alone_have_one_digest(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    digest = read_digest(bundle)
    first, *others = split(bundle)
    alone = others[-1].rename(tmp_path / "elsewhere")
    bundle.unlink()
    assert read_digest(first) == read_digest(alone) == digest


def test_a_summary_says_what_is_in_a_bundle_and_in_how_many_files(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    volumes = split(bundle)
    with BundleReader(bundle) as one, BundleReader(volumes) as other:
        whole, cut = summarize(one), summarize(other)
    assert (whole.volumes, cut.volumes) == ((), tuple(volumes))
    assert (whole.digest, whole.lock, whole.size_bytes) == (cut.digest, cut.lock, cut.size_bytes)
    assert whole.content_bytes == sum(len(content) for content in CONTENTS.values())
    assert sum(whole.chunks.values()) > 1 and 0 < whole.ratio < 1
    assert (whole.base, whole.omitted_files) == (None, 0)
