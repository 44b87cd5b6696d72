"""bundler.parity: what is lost or damaged is rebuilt up to the share, and nothing is spoilt where it cannot be."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.errors import BundleError, FormatError, IntegrityError
from bundler.format.reader import BundleReader
from bundler.parity.bundle import make_bundle_parity, repair_bundle
from bundler.parity.grid import Grid
from bundler.parity.make import make_parity
from bundler.parity.parity_file import DIGEST_BYTES, MAGIC, Head, ParityFile
from bundler.parity.protected import ProtectedFile
from bundler.parity.repair import repair
from tests.parity.damage import TENTH, contents, damage
from tests.parity.losses import make_bundles, repair_once
from tests.support.bundles import locked_repo, tiny_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    make_bundles(folder)
    return folder


@pytest.mark.parametrize("seed", [*range(9), 9, 12, 13])
def test_a_tenth_lost_at_random_is_repaired(bundles: Path, tmp_path: Path, seed: int) -> None:
    """`make soak-parity` does the same a thousand times."""
    repair_once(bundles, tmp_path / "scratch", seed)


def test_too_much_is_said_and_changes_nothing(volumes: list[Path]) -> None:
    folder = volumes[0].parent
    make_bundle_parity([folder / "demo.tar.zst"], TENTH)
    for path in volumes[: len(volumes) // 2]:
        path.unlink()
    before = contents(folder)
    with pytest.raises(
        IntegrityError, match=r"\d+ of \d+ parts of the bundle are lost or damaged, and there is parity"
    ):
        repair_bundle(folder / "demo.tar.zst")
    assert contents(folder) == before


def test_parity_that_is_there_and_right_is_kept(volumes: list[Path]) -> None:
    made = make_bundle_parity([volumes[0]], TENTH, keep=True)
    before = [path.stat() for path in made.files]
    again = make_bundle_parity([volumes[0]], TENTH, keep=True)
    assert (again.files, again.was_there, made.was_there) == (made.files, True, False)
    assert [path.stat().st_mtime_ns for path in made.files] == [one.st_mtime_ns for one in before]
    good = made.files[-1].read_bytes()
    damage(made.files[-1], [len(good) // 2])
    assert not make_bundle_parity([volumes[0]], TENTH, keep=True).was_there
    assert made.files[-1].read_bytes() == good
    assert not make_bundle_parity([volumes[0]], Fraction(1, 2), keep=True).was_there


def test_damaged_parity_serves_with_what_is_good_of_it(bundle: Path) -> None:
    good, [file] = bundle.read_bytes(), make_bundle_parity([bundle], TENTH).files
    # Its first head, and a byte among its blocks.
    damage(file, [3, 20, file.stat().st_size // 2])
    damage(bundle, [1000, 200_000])
    assert repair_bundle(bundle).files == (bundle,)
    assert bundle.read_bytes() == good
    damage(file, [file.stat().st_size - 1])
    with pytest.raises(FormatError, match="expected parity of the bundle, found"):
        repair_bundle(bundle)


def another(folder: Path, name: str = "demo") -> Path:
    """A good bundle of other content."""
    content = {"w": random.Random(9).randbytes(300_000)}
    return tiny_bundle(folder, locked_repo("org/m", content), contents=content.values(), name=name)


def test_a_good_bundle_is_not_replaced_by_the_one_that_older_parity_is_of(bundle: Path, tmp_path: Path) -> None:
    """Whatever the parity gives, and whatever its head claims."""
    [stale] = make_bundle_parity([bundle], Fraction(1)).files
    bundle.write_bytes(another(tmp_path / "other").read_bytes())
    before = contents(tmp_path)
    with pytest.raises(FormatError, match=r"is of bundle sha256:.*, and the parity is of sha256:.*; nothing"):
        repair_bundle(bundle)
    content = stale.read_bytes()
    with BundleReader(bundle) as reader, BundleReader(tmp_path / "other" / bundle.name) as other:
        assert reader.digest == other.digest
        claims = reader.digest
    head = ParityFile(stale).head
    forged = tmp_path / "forged"
    forged.write_bytes(replace(head, digest=claims).dumps() + content[len(head.dumps()) :])
    with pytest.raises(IntegrityError, match=r"expected bundle sha256:.*; nothing was changed"):
        repair(bundle, [forged])
    forged.unlink()
    assert contents(tmp_path) == before


def test_one_volume_is_not_taken_for_a_whole_bundle(volumes: list[Path], tmp_path: Path) -> None:
    folder = volumes[0].parent
    good = contents(folder)
    with BundleReader(volumes[0]) as reader:
        digest = reader.digest
    [lie] = make_parity([volumes[1]], folder / "demo.tar.zst", digest, Fraction(1)).files
    volumes[1].unlink()
    with pytest.raises(FormatError, match="volume"):
        repair(folder / "demo.tar.zst", [lie])
    assert not volumes[1].exists()
    assert {name for name in good if name != volumes[1].name} <= set(contents(folder))


def test_a_bundle_may_have_another_name_than_when_its_parity_was_made(bundle: Path, tmp_path: Path) -> None:
    good, [file] = bundle.read_bytes(), make_bundle_parity([bundle], TENTH).files
    new = bundle.rename(bundle.with_name("new.tar.zst"))
    file.rename(f"{new}.parity")
    damage(new, [1000])
    assert repair_bundle(new).files == (new,)
    assert new.read_bytes() == good


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'[[""', b'[["/../x"'),
        (b'"files": [[', b'"files": [["", 5], ['),
        (b'"version": 1', b'"version": 9'),
        (b'"first": 0', b'"first": 10000000'),
        (b'"column_bytes": ', b'"column_bytes": 1'),
        (b'"block_bytes": ', b'"block_bytes": 99999999999'),
    ],
)
def test_a_hostile_head_is_refused(bundle: Path, old: bytes, new: bytes) -> None:
    [file] = make_bundle_parity([bundle], TENTH).files
    content = file.read_bytes()
    assert old in content
    start = len(MAGIC)
    length = int.from_bytes(content[start : start + 4])
    header = content[start + 4 : start + 4 + length].replace(old, new)
    file.write_bytes(MAGIC + len(header).to_bytes(4) + header + content[start + 4 + length : -20])
    with pytest.raises(FormatError, match="expected a parity file with one whole head"):
        ParityFile(file)


def test_the_commands_say_what_they_did(volumes: list[Path]) -> None:
    def command(*words: object) -> tuple[int, dict[str, object], str]:
        done = CliRunner().invoke(main, [*map(str, words), "--json"])
        return done.exit_code, json.loads(done.stdout) if done.stdout else {}, done.stderr

    folder = volumes[0].parent
    (folder / "again").mkdir()
    words = (
        "split",
        volumes[0],
        "--volume-size",
        "30k",
        "--parity",
        "10%",
        "-o",
        folder / "again" / "demo.tar.zst",
    )
    code, value, told = command(*words)
    assert (code, value["parity"]) == (0, [str(path) for path in sorted(folder.glob("again/*.parity*"))]), told
    code, value, told = command("parity", volumes[0], "--share", "50%")
    assert (code, value["files"]) == (0, [str(path) for path in sorted(folder.glob("*.parity.*"))]), told
    damage(volumes[1], [5000])
    code, value, told = command("verify", volumes[1])
    assert (code, value["ok"]) == (6, False)
    assert "note: there is parity of it: `bundle install` rebuilds" in told
    volumes[1].unlink()
    code, _, told = command("verify", folder / "demo.tar.zst")
    assert code == 7 and "note: there is parity of it: " in told
    code, value, told = command("repair", volumes[0])
    assert (code, value["rebuilt"], value["missing"]) == (0, [str(volumes[1])], [str(volumes[1])]), told
    assert "which was missing" in told
    code, value, told = command("repair", volumes[0])
    assert (code, value["rebuilt"]) == (0, [])
    assert "nothing to repair" in told
    assert (
        command("parity", volumes[0], "--share", "0%")[0]
        == command("parity", volumes[0], "--share", "101%")[0]
        == 2
    )


def test_parity_that_asks_for_far_more_than_there_is_is_little_work(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head of 32 kB that has a bundle of a byte in 1,000 rows of 16 MiB: 16 GB of zeros behind it."""
    bundle = tmp_path / "demo.tar.zst"
    bundle.write_bytes(b"x")
    grid = Grid(16 << 20, 1000 * (16 << 20), 16 << 20, 32 << 10, 1)
    digests = bytes(16 * 1000)
    head = Head(f"sha256:{'0' * 64}", (ProtectedFile("", 1),), grid, 0, 1, digests, digests)
    hostile = tmp_path / "demo.parity"
    hostile.write_bytes(head.dumps())
    hashed: list[int] = []

    def count(content: bytes | memoryview) -> bytes:
        hashed.append(len(content))
        return bytes(DIGEST_BYTES)

    monkeypatch.setattr("bundler.parity.protection.hash_cell", count)
    with pytest.raises(BundleError):
        repair(bundle, [hostile], jobs=1)
    assert sum(hashed) <= 2 * grid.cell_bytes
    # The code takes the same time for a column of 8 bytes as for one of 32 kB.
    assert not replace(grid, column_bytes=8).is_sound()
