"""bundler.verify: the whole difference in one report, for a bundle file and for an installed bundle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundler.errors import IntegrityError
from bundler.format.reader import BundleReader
from bundler.home.installation.install import install
from bundler.home.installed import InstalledBundle
from bundler.verify.bundle_file import verify_bundle
from bundler.verify.report import Report
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle, tree

FILES = {"config.json": b"{}", "w.safetensors": os.urandom(5 << 20), "vocab.txt": b"a\nb\n"}
ARROW = {"default/0.0.0/h/d.arrow": b"arrow", "default/0.0.0/h/dataset_info.json": b'{"a": 1}'}
REPO = "hub/models--org--m"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    model = locked_repo("org/m", FILES, aliases=["m"], absent=["none.json"], lfs=["w.safetensors"])
    data = locked_repo("org/d", {"d.txt": b"d"}, kind="dataset", prepared=ARROW)
    return tiny_bundle(tmp_path, model, data, contents=[*FILES.values(), b"d", *ARROW.values()])


@pytest.fixture
def installed(bundle: Path, tmp_path: Path) -> InstalledBundle:
    return install(bundle, tmp_path / "home").bundle


def _verify(path: Path) -> Report:
    with BundleReader(path) as reader:
        return verify_bundle(reader, jobs=2)


def test_a_good_bundle_verifies_and_nothing_is_written(bundle: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    report = _verify(bundle)
    assert (report.ok, report.files) == (True, 6)
    assert report.digest.startswith("sha256:")
    assert tree(tmp_path) == before


def test_damage_in_a_bundle_names_the_repo_file_and_the_chunk(bundle: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    report = _verify(bundle)
    [fault] = report.faults
    assert fault.kind == "changed"
    assert "org/m: w.safetensors" in fault.detail
    assert "chunk" in fault.detail
    with pytest.raises(IntegrityError, match=r"w\.safetensors"):
        report.raise_if_failed()


def test_every_byte_of_a_bundle_counts(tmp_path: Path) -> None:
    from bundler.errors import BundleError

    path = tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"aa"}), contents=[b"aa"])
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        try:
            assert not _verify(path).ok, f"byte {position}"
        except BundleError:
            continue


@pytest.mark.parametrize("quick", [False, True])
def test_an_untouched_installation_verifies(installed: InstalledBundle, quick: bool) -> None:
    report = installed.verify(quick=quick)
    assert report.faults == ()
    assert report.files == 6
    assert report.size_bytes == (0 if quick else sum(map(len, [*FILES.values(), b"d", *ARROW.values()])))


def _faults(installed: InstalledBundle, *, quick: bool = False) -> set[tuple[str, str]]:
    return {(fault.kind, fault.path) for fault in installed.verify(quick=quick).faults}


def test_everything_wrong_is_in_one_report(installed: InstalledBundle) -> None:
    home = installed.hf_home
    snapshot = home / REPO / "snapshots" / COMMIT
    (snapshot / "chat_template.jinja").write_text("{{ evil }}")
    (snapshot / "config.json").unlink()
    weights = (snapshot / "w.safetensors").resolve()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (home / REPO / "refs" / "main").write_text(COMMIT + "\n")
    (home / "datasets" / "org___d" / "default/0.0.0/h/d.arrow").unlink()
    (home / "hub" / "models--m").unlink()
    assert _faults(installed) == {
        ("extra", f"{REPO}/snapshots/{COMMIT}/chat_template.jinja"),
        ("missing", f"{REPO}/snapshots/{COMMIT}/config.json"),
        ("changed", f"{REPO}/blobs/{weights.name}"),
        ("changed", f"{REPO}/refs/main"),
        ("missing", "datasets/org___d/default/0.0.0/h/d.arrow"),
        ("missing", "hub/models--m"),
    }


def test_a_flipped_byte_is_found_by_hashing_and_not_by_a_quick_look(installed: InstalledBundle) -> None:
    weights = (installed.snapshot_path("m") / "w.safetensors").resolve()
    data = bytearray(weights.read_bytes())
    data[1000] ^= 1
    weights.write_bytes(data)
    assert _faults(installed, quick=True) == set()
    assert _faults(installed) == {("changed", f"{REPO}/blobs/{weights.name}")}


def test_a_link_that_points_elsewhere_is_found(installed: InstalledBundle, tmp_path: Path) -> None:
    file = installed.snapshot_path("m") / "vocab.txt"
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(copy)
    path = file.relative_to(installed.hf_home).as_posix()
    assert path.startswith("bundles/views/tiny/")
    assert _faults(installed, quick=True) == {("changed", path)}


def test_a_marker_that_hides_a_shipped_file_is_found(installed: InstalledBundle) -> None:
    marker = installed.hf_home / REPO / ".no_exist" / COMMIT / "vocab.txt"
    marker.touch()
    assert _faults(installed) == {("extra", f"{REPO}/.no_exist/{COMMIT}/vocab.txt")}


def test_a_tree_listing_with_a_file_that_is_not_there_is_found(installed: InstalledBundle) -> None:
    listing = installed.hf_home / REPO / "trees" / f"{COMMIT}.json"
    text = listing.read_text().replace('"files": {', '"files": {"gone.bin": {"size": 1, "blob_id": "x"},')
    listing.write_text(text)
    assert _faults(installed) == {("changed", f"{REPO}/trees/{COMMIT}.json")}


def test_results_that_datasets_caches_beside_prepared_files_are_no_fault(installed: InstalledBundle) -> None:
    (installed.hf_home / "datasets/org___d/default/0.0.0/h/cache-1234.arrow").write_bytes(b"map")
    assert _faults(installed) == set()


def test_one_repo_can_be_verified_alone(installed: InstalledBundle) -> None:
    (installed.hf_home / "datasets/org___d/default/0.0.0/h/d.arrow").unlink()
    assert installed.verify(repo_id="m").ok
    assert not installed.verify(repo_id="org/d").ok


def test_verifying_writes_nothing_even_where_much_is_wrong(installed: InstalledBundle) -> None:
    (installed.snapshot_path("m") / "vocab.txt").unlink()
    before = tree(installed.hf_home)
    installed.verify()
    assert tree(installed.hf_home) == before


def test_a_folder_of_a_repo_called_blobs_is_looked_at_in_each_view(tmp_path: Path) -> None:
    repo = locked_repo("org/m", {"blobs/a.txt": b"a"})
    bundle = install(tiny_bundle(tmp_path, repo, contents=[b"a"]), tmp_path / "home").bundle
    (bundle.view / REPO / "snapshots" / COMMIT / "blobs/a.txt").unlink()
    [fault] = bundle.verify(quick=True).faults
    assert (fault.kind, fault.path.startswith("bundles/")) == ("missing", True)
    # Content in place of a link, as a copy without links has it.
    (bundle.view / REPO / "snapshots" / COMMIT / "blobs/a.txt").write_bytes(b"b")
    [fault] = bundle.verify().faults
    assert (fault.kind, fault.path.startswith("bundles/")) == ("changed", True)
