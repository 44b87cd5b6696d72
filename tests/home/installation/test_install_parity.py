"""bundle install of what is damaged or not all there: rebuilt from parity, named, and verified as anything else."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from bundler.errors import DamagedError, FormatError, IntegrityError, UsageError
from bundler.format import cut
from bundler.format.reader import BundleReader
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.installation.plan import plan_install
from bundler.make.split import split_bundle
from bundler.parity.bundle import make_bundle_parity
from bundler.parity.make import make_parity
from bundler.parity.parity_file import ParityFile
from bundler.remote.address import Address
from tests.support.bundles import locked_repo, tiny_bundle, tree
from tests.support.process import script

FILES = {f"w{number}": random.Random(number).randbytes(60_000) for number in range(4)}
TENTH = Fraction(1, 10)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of many chunks in one file, the same in a dozen volumes, parity of both, and what it installs."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut, "CHUNK_BYTES", 4096)
        patch.setattr(cut, "LARGE_BLOB_BYTES", 4096)
        bundle = tiny_bundle(folder / "file", locked_repo("org/m", FILES), contents=FILES.values(), name="demo")
    (folder / "volumes").mkdir()
    split_bundle(bundle, 20_000, folder / "volumes" / "demo.tar.zst")
    shutil.rmtree(folder / "file" / "store")
    for one in (bundle, folder / "volumes" / "demo.tar.zst"):
        make_bundle_parity([one], TENTH)
    install(bundle, folder / "home")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    for form in ("file", "volumes"):
        shutil.copytree(made / form, tmp_path / form)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def garble(path: Path, start: int, stop: int) -> None:
    content = bytearray(path.read_bytes())
    content[start:stop] = bytes(255 - byte for byte in content[start:stop])
    path.write_bytes(content)


def test_a_damaged_file_is_installed_and_stays_as_it_is(made: Path, folder: Path) -> None:
    bundle = folder / "file" / "demo.tar.zst"
    garble(bundle, 50_000, 70_000)
    garble(bundle, bundle.stat().st_size - 40, bundle.stat().st_size)
    before, notes = contents(folder / "file"), list[str]()
    done = install(bundle, folder / "home", on_note=notes.append)
    assert done.rebuilt == (str(bundle),)
    assert tree(folder / "home") == tree(made / "home")
    assert contents(folder / "file") == before
    assert "trying to rebuild it from parity" in notes[0]
    assert notes[1].startswith("rebuilt from parity: ")
    assert str(bundle) in notes[1]


def test_a_dry_run_reads_what_parity_gives_too_and_leaves_all_as_it_is(folder: Path) -> None:
    volumes = sorted(path for path in (folder / "volumes").iterdir() if "parity" not in path.name)
    whole = plan_install(volumes, folder / "home")
    volumes[-1].unlink()
    before, notes = contents(folder / "volumes"), list[str]()
    planned = plan_install(volumes[:-1], folder / "home", on_note=notes.append)
    assert planned.rebuilt == (str(volumes[-1]),)
    assert (planned.digest, planned.written_bytes) == (whole.digest, whole.written_bytes) and not whole.rebuilt
    assert "trying to rebuild it from parity" in notes[0]
    assert contents(folder / "volumes") == before and not (folder / "home").exists()
    with pytest.raises(FormatError):
        plan_install(volumes[:-1], folder / "home", parity=None)


def test_what_was_verified_before_the_damage_is_not_written_again(folder: Path) -> None:
    bundle = folder / "file" / "demo.tar.zst"
    garble(bundle, bundle.stat().st_size // 2, bundle.stat().st_size // 2 + 100)
    done = install(bundle, folder / "home", jobs=1)
    assert 0 < done.written_files < len(FILES)


def test_missing_volumes_are_installed_from_several_folders(made: Path, folder: Path) -> None:
    volumes = sorted(path for path in (folder / "volumes").iterdir() if "parity" not in path.name)
    (folder / "other").mkdir()
    moved = [path.rename(folder / "other" / path.name) for path in volumes[5:]]
    volumes[1].unlink()
    done = install([volumes[0], *volumes[2:5], *moved], folder / "home")
    assert done.rebuilt == (str(volumes[1]),)
    assert tree(folder / "home") == tree(made / "home")


@pytest.mark.parametrize("form", ["file", "volumes"])
def test_a_pipe_that_changes_bytes_is_installed_with_parity_of_it(made: Path, folder: Path, form: str) -> None:
    parts = [path for path in sorted((folder / form).iterdir()) if "parity" not in path.name]
    content = bytearray(b"".join(path.read_bytes() for path in parts))
    content[30_000:31_000] = bytes(1000)
    [parity, *more] = [path for path in sorted((folder / form).iterdir()) if "parity" in path.name]
    for path in parts:
        path.unlink()
    with pytest.raises(DamagedError):
        install(io.BytesIO(content), folder / "home")
    done = install(io.BytesIO(content), folder / "home", parity=[parity, *more])
    assert done.rebuilt == (str(parts[1 if form == "volumes" else 0]),)
    assert tree(folder / "home") == tree(made / "home")


def test_a_pipe_that_leaves_bytes_out_and_sends_some_twice_is_installed_with_parity_of_it(
    made: Path, folder: Path
) -> None:
    bundle = folder / "file" / "demo.tar.zst"
    content = bundle.read_bytes()
    bundle.unlink()
    sent = content[:30_001] + content[31_002:90_000] + content[89_000:150_000] + content[155_000:]
    done = install(io.BytesIO(sent), folder / "home", parity=[Path(f"{bundle}.parity")])
    assert done.rebuilt == (str(bundle),)
    assert tree(folder / "home") == tree(made / "home")


def test_a_pipe_that_breaks_off_is_installed_with_parity_of_it(made: Path, folder: Path) -> None:
    """By the command, of a real pipe."""
    bundle = folder / "file" / "demo.tar.zst"
    content = bundle.read_bytes()
    bundle.unlink()
    words = ["install", "-", "--parity", f"{bundle}.parity", "--hf-home", str(folder / "home"), "--json"]
    done = subprocess.run(
        [script("bundle"), *words],
        input=content[: -len(content) // 12],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rebuilt"] == [str(bundle)]
    assert tree(folder / "home") == tree(made / "home")


def test_too_much_damage_is_refused_and_nothing_is_visible(folder: Path) -> None:
    bundle = folder / "file" / "demo.tar.zst"
    garble(bundle, 1000, 200_000)
    with pytest.raises(IntegrityError, match="are lost or damaged, and there is parity for"):
        install(bundle, folder / "home")
    assert Home(folder / "home").all_names() == []


def test_a_damaged_bundle_is_refused_where_nothing_may_be_repaired(folder: Path) -> None:
    bundle = folder / "file" / "demo.tar.zst"
    garble(bundle, 50_000, 50_100)
    with pytest.raises(DamagedError):
        install(bundle, folder / "home", parity=None)


def test_parity_of_another_bundle_changes_nothing_of_the_error(folder: Path) -> None:
    """Whether it says so, or lies."""
    bundle = folder / "file" / "demo.tar.zst"
    other = tiny_bundle(folder / "other", locked_repo("org/m", {"w": b"w" * 9}), contents=[b"w" * 9], name="demo")
    [parity] = make_bundle_parity([other], Fraction(1)).files
    garble(bundle, 50_000, 50_100)
    Path(f"{bundle}.parity").unlink()
    notes: list[str] = []
    with pytest.raises(DamagedError):
        install(bundle, folder / "home", parity=[parity], on_note=notes.append)
    assert "not rebuilt: " in notes[-1]
    with BundleReader(other) as reader:
        assert ParityFile(parity).head.digest == reader.digest


def test_parity_of_an_address_is_refused_with_what_to_do(folder: Path) -> None:
    address = Address("https://files.example.org/demo.tar.zst")
    with pytest.raises(UsageError, match="parity is of files, and this is an address"):
        install(address, folder / "home", parity=[folder / "file" / "demo.tar.zst.parity"])


def test_damage_from_before_parity_was_made_keeps_its_error(folder: Path) -> None:
    """There is nothing to rebuild, by that parity."""
    bundle = folder / "file" / "demo.tar.zst"
    garble(bundle, 50_000, 50_100)
    with BundleReader(bundle) as reader:
        digest = reader.digest
    make_parity([bundle], bundle, digest, TENTH)
    with pytest.raises(DamagedError):
        install(bundle, folder / "home")


def test_no_copy_of_a_pipe_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder / "tmp"))
    parity = folder / "file" / "demo.tar.zst.parity"
    install(io.BytesIO((folder / "file" / "demo.tar.zst").read_bytes()), folder / "home", parity=[parity])
    assert list((folder / "tmp").iterdir()) == []
