"""Deltas: only what the base lacks is carried, and nothing is installed unless all of it is there."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from io import FileIO
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.errors import FormatError, IntegrityError, LockError
from bundler.format.codec.codecs import CodecChoice
from bundler.format.index import index_frame
from bundler.format.reader import BundleReader
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import FileDestination, VolumeDestination
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.receipt import receipt_path
from bundler.home.remove import remove
from bundler.make.delta import Base, check_base_stays
from bundler.make.pack import pack
from bundler.plan.lock import Lock
from bundler.serve.sources import open_source
from bundler.verify.bundle_file import verify_bundle
from tests.support.bundles import OTHER_COMMIT, blob_store, lock_of, locked_repo, tree

WEIGHTS = os.urandom(3 << 20)
OLD = {"config.json": b'{"v": 1}', "w.safetensors": WEIGHTS, "gone.txt": b"gone"}
NEW = {"config.json": b'{"v": 2}', "w.safetensors": WEIGHTS, "extra.txt": b"extra"}
ARROW = {"default/0.0.0/h/d.arrow": b"arrow" * 200}


def _lock(name: str, files: dict[str, bytes], commit: str) -> Lock:
    data = locked_repo("org/d", {"d.txt": b"d"}, kind="dataset", prepared=ARROW)
    # A revision of its own: two bundles of different names cannot both have `main`.
    model = locked_repo("org/m", files, commit=commit, revision=name, lfs=["w.safetensors"])
    return lock_of(model, data, name=name)


def _pack(
    folder: Path,
    name: str,
    files: dict[str, bytes],
    commit: str,
    base: Base | None = None,
    codec: CodecChoice = "auto",
) -> Path:
    store = blob_store(folder / "store", [*files.values(), b"d", *ARROW.values()])
    out = folder / f"{name}-{'delta' if base else 'whole'}.tar.zst"
    pack(_lock(name, files, commit), store, out, base=base, codec=codec)
    return out


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return _pack(tmp_path, "old", OLD, OTHER_COMMIT)


@pytest.fixture
def delta(tmp_path: Path, old: Path) -> Path:
    return _pack(tmp_path, "new", NEW, "c" * 40, Base.open(old))


def test_a_delta_holds_only_what_the_base_lacks(old: Path, delta: Path) -> None:
    assert old.stat().st_size > len(WEIGHTS)
    # The index of the whole bundle in it costs 44 bytes for each of its chunks.
    assert delta.stat().st_size < 10_000
    with BundleReader(delta) as reader:
        assert verify_bundle(reader, jobs=1).ok
        held = {member.blob.size_bytes for member in reader.plan.members if member.blob}
        assert held == {len(b'{"v": 2}'), len(b"extra")}
        assert reader.index.base is not None
        with BundleReader(old) as whole:
            assert reader.index.base.digest == whole.digest


def test_over_its_base_a_delta_installs_what_the_whole_bundle_installs(
    tmp_path: Path, old: Path, delta: Path
) -> None:
    whole = _pack(tmp_path, "new", NEW, "c" * 40)
    install(old, tmp_path / "a")
    install(old, tmp_path / "b")
    result = install(delta, tmp_path / "a")
    install(whole, tmp_path / "b")
    assert result.bundle.verify().ok
    ours, theirs = (Home(tmp_path / name).bundle("new") for name in ("a", "b"))
    with BundleReader(whole) as reader:
        assert (ours.lock, ours.digest) == (theirs.lock, theirs.digest) == (reader.lock, reader.digest)
    # Receipts, views, names: nothing tells which of the two it came from.
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize("first", ["delta", "whole"])
def test_the_delta_and_the_whole_bundle_are_one_generation(
    tmp_path: Path, old: Path, delta: Path, first: str
) -> None:
    whole, home = _pack(tmp_path, "new", NEW, "c" * 40), tmp_path / "home"
    install(old, home)
    one, other = (delta, whole) if first == "delta" else (whole, delta)
    before = install(one, home)
    there = tree(home)
    after = install(other, home)
    assert (after.was_complete, after.replaced, after.bundle) == (True, None, before.bundle)
    assert tree(home) == there
    assert len(Home(home).generations("new")) == 1
    with other.open("rb", buffering=0) as stream:
        assert install(stream, home).was_complete
    assert tree(home) == there


def test_the_installed_digest_does_not_depend_on_the_base(tmp_path: Path, old: Path, delta: Path) -> None:
    lock_file = tmp_path / "old.lock"
    lock_file.write_text(_lock("old", {"gone.txt": b"gone"}, OTHER_COMMIT).dumps())
    by_lock = _pack(tmp_path / "l", "new", NEW, "c" * 40, Base.open(lock_file))
    in_zstd = _pack(tmp_path / "z", "new", NEW, "c" * 40, Base.open(old), codec="zstd")
    whole = _pack(tmp_path / "z", "new", NEW, "c" * 40, codec="zstd")
    with BundleReader(delta) as one, BundleReader(by_lock) as other:
        assert one.digest != other.digest and one.whole_digest == other.whole_digest
    with BundleReader(in_zstd) as one, BundleReader(whole) as other:
        assert one.whole_digest == other.digest


def test_the_base_of_a_delta_is_known_by_what_was_installed(tmp_path: Path, old: Path, delta: Path) -> None:
    home = tmp_path / "home"
    install(old, home)
    install(delta, home)
    assert Base.open(delta) == Base.open(receipt_path(home, "new"))


def test_a_delta_with_the_index_of_another_bundle_is_refused(tmp_path: Path, old: Path, delta: Path) -> None:
    """A digest that the sender published must not be had for other content."""
    with BundleReader(old) as genuine, BundleReader(delta) as reader:
        assert reader.base is not None
        base = replace(reader.base, whole=genuine.digest)
        forged = replace(reader.index, base=base, whole=genuine.index.payload())
        chunks = delta.read_bytes()[: -len(index_frame(reader.index))]
    delta.write_bytes(chunks + index_frame(forged))
    install(old, tmp_path / "home")
    before = tree(tmp_path / "home")
    for source in (delta, FileIO(delta)):
        with pytest.raises(FormatError, match="another bundle"):
            install(source, tmp_path / "home")
        assert {k: v for k, v in tree(tmp_path / "home").items() if k in before} == before
        assert Home(tmp_path / "home").names() == ["old"]


def test_the_base_may_be_a_lock_or_a_receipt_too(tmp_path: Path, old: Path, delta: Path) -> None:
    lock_file = tmp_path / "old.lock"
    lock_file.write_text(_lock("old", OLD, OTHER_COMMIT).dumps())
    install(old, tmp_path / "home")
    by_bundle = Base.open(old)
    assert Base.open(lock_file).contents == by_bundle.contents
    assert Base.open(lock_file).digest is None
    assert Base.open(receipt_path(tmp_path / "home", "old")) == by_bundle
    by_receipt = _pack(tmp_path / "r", "new", NEW, "c" * 40, Base.open(receipt_path(tmp_path / "home", "old")))
    assert by_receipt.read_bytes() == delta.read_bytes()


def test_without_the_base_everything_that_is_missing_is_named_and_nothing_is_written(
    tmp_path: Path, delta: Path
) -> None:
    home = tmp_path / "home"
    with pytest.raises(IntegrityError) as caught:
        install(delta, home)
    for name in ("org/m: w.safetensors", "org/d: d.txt", "org/d: prepared dataset", "bundle old (sha256:"):
        assert name in str(caught.value)
    assert tree(home) == {}


def test_damaged_content_of_the_base_is_found_before_anything_is_written(
    tmp_path: Path, old: Path, delta: Path
) -> None:
    home = tmp_path / "home"
    weights = install(old, home).bundle.snapshot_path("org/m") / "w.safetensors"
    damaged = bytearray(WEIGHTS)
    damaged[7] ^= 1
    weights.resolve().write_bytes(damaged)
    before = tree(home)
    with pytest.raises(IntegrityError, match=r"lacks 1 of the files.*\n.*w\.safetensors"):
        install(delta, home)
    assert tree(home) == before


def test_the_base_can_be_removed_afterwards(tmp_path: Path, old: Path, delta: Path) -> None:
    home = tmp_path / "home"
    install(old, home)
    installed = install(delta, home).bundle
    remove("old", home)
    assert installed.verify().ok
    assert (installed.snapshot_path("org/m") / "w.safetensors").read_bytes() == WEIGHTS


def test_a_delta_can_replace_its_base_under_the_same_name(tmp_path: Path) -> None:
    first = _pack(tmp_path / "1", "same", OLD, OTHER_COMMIT)
    second = _pack(tmp_path / "2", "same", NEW, "c" * 40, Base.open(first))
    home = tmp_path / "home"
    install(first, home)
    installed = install(second, home).bundle
    assert installed.verify().ok
    assert [p.name for p in (installed.view / "hub" / "models--org--m" / "snapshots").iterdir()] == ["c" * 40]
    # Once it is there, the delta is enough to repair what it carried, and needs no base to be installed again.
    assert install(second, home).written_files == 0


def test_stock_tar_unpacks_a_delta_over_its_base(tmp_path: Path) -> None:
    old = _pack(tmp_path / "1", "old", OLD, OTHER_COMMIT, codec="zstd")
    new = _pack(tmp_path / "2", "new", NEW, OTHER_COMMIT, Base.open(old), codec="zstd")
    home = tmp_path / "home"
    home.mkdir()
    for bundle in (old, new):
        subprocess.run(["tar", "--zstd", "-xf", bundle, "-C", home], check=True)
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "bundles/new.sha256"], cwd=home, check=True)


def test_a_delta_is_not_served(delta: Path) -> None:
    with pytest.raises(FormatError, match="is a delta"):
        open_source(delta)


def test_inspect_says_that_it_is_a_delta(delta: Path) -> None:
    done = CliRunner().invoke(main, ["inspect", str(delta)])
    assert "delta of old sha256:" in done.stdout
    value = json.loads(CliRunner().invoke(main, ["inspect", str(delta), "--json"]).stdout)
    assert value["base"]["omitted_files"] == 3


@pytest.mark.parametrize("position", range(0, 9000, 97))
def test_every_byte_of_a_delta_counts(delta: Path, position: int) -> None:
    content = bytearray(delta.read_bytes())
    content[position % len(content)] ^= 1
    delta.write_bytes(content)
    try:
        with BundleReader(delta) as reader:
            assert not verify_bundle(reader, jobs=1).ok
    except FormatError:
        pass


def test_a_base_that_is_none_is_refused(tmp_path: Path) -> None:
    incomplete = tmp_path / "x.lock"
    incomplete.write_text(_lock("old", OLD, OTHER_COMMIT).dumps().replace('"sha256"', '"sha257"', 1))
    with pytest.raises(LockError):
        Base.open(incomplete)
    (tmp_path / "x.tar.zst").write_bytes(b"nothing")
    with pytest.raises(FormatError):
        Base.open(tmp_path / "x.tar.zst")


def test_a_base_in_volumes_may_be_called_by_their_common_name(tmp_path: Path, old: Path) -> None:
    whole = Base.open(old)
    volumes = tmp_path / "v.tar.zst"
    with BundleReader(old) as reader:
        copy_bundle(reader, VolumeDestination(volumes, 4_500_000, sole=False))
    assert Base.open(volumes) == Base.open(tmp_path / "v.tar.zst.001") == whole


@pytest.mark.parametrize(
    ("name", "code", "found"),
    [
        ("-", 2, "found standard input"),
        ("pipe", 2, "found a pipe or a device"),
        ("pipe.lock", 2, "found a pipe or a device"),
        ("/dev/null", 2, "found a pipe or a device"),
        ("folder", 2, "found a folder"),
        ("gone.tar.zst", 7, "found no such file"),
        ("gone.lock", 7, "found no such file"),
        ("gone.json", 7, "found no such file"),
    ],
)
def test_a_base_that_is_no_file_is_named_with_what_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text("version: 1\nname: m\ntokenizers:\n  - repo_id: org/m\n")
    os.mkfifo("pipe")
    os.mkfifo("pipe.lock")
    Path("folder").mkdir()
    done = CliRunner().invoke(main, ["fetch", "m.yaml", "--base", name])
    expected = f"error: base {name}: expected the bundle carried over before, its lock, or its receipt, {found}"
    assert done.exit_code == code and done.stderr.startswith(expected)


@pytest.fixture
def places(tmp_path: Path, old: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which the base stands in all of its forms, and by other names."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("m.yaml").write_text("version: 1\nname: m\ntokenizers:\n  - repo_id: org/m\n")
    Path("old.tar.zst").write_bytes(old.read_bytes())
    Path("m.tar.zst").write_bytes(old.read_bytes())
    Path("m.delta.tar.zst").write_bytes(old.read_bytes())
    Path("m.lock").write_text(_lock("old", OLD, OTHER_COMMIT).dumps())
    Path("old.lock").write_text(_lock("old", OLD, OTHER_COMMIT).dumps())
    Path("link.tar.zst").symlink_to("old.tar.zst")
    os.link("old.tar.zst", "hard.tar.zst")
    Path("also").symlink_to(".")
    with BundleReader(old) as reader:
        copy_bundle(reader, VolumeDestination(Path("v.tar.zst"), 4_500_000, sole=False))
    return folder


@pytest.mark.parametrize(
    "words",
    [
        "--base m.delta.tar.zst",
        "--base old.tar.zst -o old.tar.zst",
        "--base old.tar.zst -o also/old.tar.zst",
        "--base also/old.tar.zst -o old.tar.zst",
        "--base old.tar.zst -o link.tar.zst",
        "--base link.tar.zst -o old.tar.zst",
        "--base old.tar.zst -o hard.tar.zst",
        "--base old.lock -o old.lock",
        "--base v.tar.zst -o v.tar.zst",
        "--base v.tar.zst.001 -o v.tar.zst",
        "--base v.tar.zst -o also/v.tar.zst --volume-size 9M",
        "--base v.tar.zst.002 -o v.tar.zst --volume-size 9M",
        "--base old.tar.zst -o old.tar.zst --volume-size 9M",
        "--base m.lock",
        "--base also/m.lock",
    ],
)
@pytest.mark.parametrize("dry", ["", " --dry-run"])
def test_a_delta_is_never_written_over_its_base_nor_its_lock(
    places: Path, monkeypatch: pytest.MonkeyPatch, words: str, dry: str
) -> None:
    # Nobody is asked: there is no Hub there.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("BUNDLE_CACHE", str(places / "cache"))
    before = tree(places)
    done = CliRunner().invoke(main, [*f"fetch m.yaml {words}{dry}".split()])
    assert done.exit_code == 2, done.stderr
    assert "written over its base" in done.stderr or "leave out everything" in done.stderr
    assert tree(places) == before and not (places / "cache").exists()


def test_beside_its_base_a_delta_is_written(places: Path) -> None:
    for base, out in (("old.tar.zst", "m.delta.tar.zst"), ("v.tar.zst", "m.tar.zst"), ("old.lock", "new.tar.zst")):
        check_base_stays(Path(base), FileDestination(Path(out)), Path("m.lock"))
    check_base_stays(Path("old.tar.zst"), VolumeDestination(Path("v.tar.zst"), 10), Path("m.lock"))
