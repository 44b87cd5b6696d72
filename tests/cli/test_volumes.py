"""The commands around volumes, pipes and digests: what they print, and how they end."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.cli.bundle_arguments import VolumeSize
from tests.support.bundles import locked_repo, tiny_bundle, tree
from tests.support.process import script

FILES = {"config.json": b"{}", "w.safetensors": random.Random(2).randbytes(9 << 20)}


def bundle_command(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="bundle")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def bundle(folder: Path) -> Path:
    model = locked_repo("org/m", FILES, aliases=["m"], lfs=["w.safetensors"])
    other = locked_repo("org/n", {"n": b"n"})
    tiny_bundle(folder, model, other, contents=[*FILES.values(), b"n"])
    return Path("tiny.tar.zst")


@pytest.fixture
def digest(bundle: Path) -> str:
    return bundle_command("digest", bundle).stdout.strip()


@pytest.fixture
def volumes(bundle: Path, digest: str) -> list[Path]:
    done = bundle_command("split", bundle, "--volume-size", "5M")
    names = [f"tiny.tar.zst.00{number}" for number in (1, 2, 3)]
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"split tiny.tar.zst: 3 volumes, {names[0]} to {names[2]}\n{digest}\n"
    bundle.rename("away")
    return [Path(name) for name in names]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4294967295", 4294967295),
        ("3900M", 3_900_000_000),
        ("3.9G", 3_900_000_000),
        ("25GB", 25_000_000_000),
        ("700k", 700_000),
        ("4GiB", 4 << 30),
        ("4.7 GB", 4_700_000_000),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes_are_read_as_media_are_sold(text: str, size: int) -> None:
    assert VolumeSize().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "0", "x", "-1M", "1Q", "1e9", "1.2.3M", "0.1"])
def test_what_is_no_size_is_wrong_usage(bundle: Path, text: str) -> None:
    assert bundle_command("split", bundle, "--volume-size", text).exit_code == 2


def test_join_gives_the_file_back(volumes: list[Path], digest: str) -> None:
    done = bundle_command("join", volumes[0], "--json")
    assert json.loads(done.stdout) == {
        "bundle": "tiny.tar.zst",
        "digest": digest,
        "bundle_bytes": Path("away").stat().st_size,
        "replaced": None,
    }
    assert Path("tiny.tar.zst").read_bytes() == Path("away").read_bytes()
    assert all(path.exists() for path in volumes)


def test_splitting_and_joining_say_what_they_replace_and_delete(volumes: list[Path], digest: str) -> None:
    again = bundle_command("split", "away", "--volume-size", "20M", "-o", "tiny.tar.zst", "--json")
    size_bytes = json.loads(again.stdout)["replaced"]["size_bytes"]
    assert json.loads(again.stdout)["replaced"] == {
        "paths": [str(path) for path in volumes],
        "digest": digest,
        "size_bytes": size_bytes,
    }
    assert [path.exists() for path in volumes] == [True, False, False]
    assert f"replaces {', '.join(map(str, volumes))}: " in again.stderr
    Path("other").write_bytes(b"no bundle")
    joined = bundle_command("join", volumes[0], "-o", "other", "--json")
    assert json.loads(joined.stdout)["replaced"] == {"paths": ["other"], "digest": None, "size_bytes": 9}
    assert "replaces other: 9 B, which is no bundle, or a damaged one" in joined.stderr


def test_join_of_what_is_no_volume_is_wrong_usage(volumes: list[Path]) -> None:
    before = Path("away").read_bytes()
    assert bundle_command("join", "away").exit_code == 2
    assert bundle_command("join", "away", "-o", "away").exit_code == 2
    assert bundle_command("join", volumes[0], "-o", volumes[1]).exit_code == 2
    assert Path("away").read_bytes() == before


def test_volumes_are_split_again_elsewhere_and_not_over_themselves(volumes: list[Path], digest: str) -> None:
    before = [path.read_bytes() for path in volumes]
    refused = bundle_command("split", volumes[0], "--volume-size", "20M")
    assert refused.exit_code == 2
    assert "name another place with --output" in refused.stderr
    assert [path.read_bytes() for path in volumes] == before
    done = bundle_command("split", "tiny.tar.zst", "--volume-size", "20M", "-o", "again.tar.zst", "--json")
    assert json.loads(done.stdout)["volumes"] == ["again.tar.zst.001"]
    assert bundle_command("digest", "again.tar.zst").stdout.strip() == digest


def test_a_size_too_small_is_wrong_usage_and_leaves_nothing(bundle: Path) -> None:
    done = bundle_command("split", bundle, "--volume-size", "4M")
    assert done.exit_code == 2
    assert "a volume of 4,000,000 bytes is too small" in done.stderr
    assert not list(Path().glob("*.0*")) and not list(Path().glob(".bundle-tmp-*"))


@pytest.mark.parametrize("named", ["first", "all", "name", "nothing"])
def test_volumes_install(volumes: list[Path], digest: str, named: str) -> None:
    words = {"first": volumes[:1], "all": volumes, "name": ["tiny.tar.zst"], "nothing": []}[named]
    done = bundle_command("install", *words)
    assert done.exit_code == 0, done.stderr
    assert digest in done.stderr
    assert bundle_command("digest", "tiny").stdout.strip() == digest


def test_a_folder_stands_for_the_bundle_in_it(volumes: list[Path], folder: Path) -> None:
    assert bundle_command("install", folder, "--hf-home", folder / "h").exit_code == 0
    assert json.loads(bundle_command("inspect", folder, "--json").stdout)["volumes"] == [
        str(folder / path) for path in volumes
    ]


def test_a_file_and_volumes_of_another_bundle_beside_it_are_not_guessed_between(
    volumes: list[Path], folder: Path
) -> None:
    # Carried here by hand: packing it here would have removed the volumes.
    other = tiny_bundle(folder / "other", locked_repo("org/m", {"a": b"a"}), contents=[b"a"])
    other.rename("tiny.tar.zst")
    done = bundle_command("install")
    assert done.exit_code == 7
    assert "left from an older run" in done.stderr
    assert bundle_command("install", "tiny.tar.zst").exit_code == 0


def test_one_volume_is_verified_alone_and_all_of_them_as_a_bundle(volumes: list[Path], digest: str) -> None:
    volumes[0].rename("elsewhere")
    alone = bundle_command("verify", volumes[1])
    assert alone.exit_code == 0
    assert f"tiny.tar.zst.002, volume 2 of 3, alone: ok; checked 4.19 MB in 1 file\n{digest}\n" in alone.stderr
    assert bundle_command("verify", *volumes[1:]).exit_code == 7
    Path("elsewhere").rename(volumes[0])
    for words in (volumes, ["./tiny.tar.zst"]):
        whole = bundle_command("verify", *words)
        assert whole.exit_code == 0
        assert "tiny.tar.zst: ok; checked" in whole.stderr and "in 3 files" in whole.stderr


def test_a_damaged_volume_alone_ends_with_6(volumes: list[Path]) -> None:
    data = bytearray(volumes[1].read_bytes())
    data[5000] ^= 1
    volumes[1].write_bytes(data)
    done = bundle_command("verify", volumes[1])
    assert done.exit_code == 6
    assert "changed: tiny.tar.zst.002 (expected blake3" in done.stderr


def test_digest_of_everything_that_has_one_is_the_same(bundle: Path, digest: str) -> None:
    assert len(digest) == 71
    assert bundle_command("split", bundle, "--volume-size", "5M").exit_code == 0
    assert bundle_command("install", bundle).exit_code == 0
    Path("tiny.tar.zst.001").unlink()
    for what in ("tiny.tar.zst.002", "tiny"):
        assert bundle_command("digest", what).stdout == f"{digest}\n"
    assert bundle_command("digest", "other").exit_code == 9
    assert bundle_command("digest", "./other").exit_code == 7


def test_inspect_shows_the_volumes(volumes: list[Path], digest: str) -> None:
    done = bundle_command("inspect", volumes[2])
    assert done.stdout.startswith(f"tiny  {digest}\n")
    assert "in 3 volumes, tiny.tar.zst.001 to tiny.tar.zst.003" in done.stdout


def test_only_some_repos(bundle: Path) -> None:
    done = bundle_command("install", bundle, "--only", "org/n", "--json")
    assert json.loads(done.stdout)["left_out"] == ["org/m"]
    assert done.stderr.endswith("left out: org/m\n")
    assert "  left out   org/m" in bundle_command("list").stdout
    assert json.loads(bundle_command("list", "--json").stdout)["bundles"][0]["left_out"] == ["org/m"]
    assert bundle_command("path", "m").exit_code == 9
    assert bundle_command("verify", "tiny").exit_code == 0
    assert bundle_command("install", bundle, "--only", "m", "--only", "org/n").stderr.count("left out") == 0
    assert bundle_command("path", "m").exit_code == 0


def test_install_from_a_pipe_and_not_from_a_terminal(bundle: Path, digest: str) -> None:
    with bundle.open("rb") as stream:
        done = subprocess.run([script("bundle"), "install", "-"], stdin=stream, capture_output=True, check=True)
    assert digest.encode() in done.stderr and done.stdout == b""
    main_end, terminal = pty.openpty()
    refused = subprocess.run([script("bundle"), "install", "-"], stdin=terminal, capture_output=True, check=False)
    os.close(main_end)
    os.close(terminal)
    assert refused.returncode == 2
    assert b"found a terminal" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        "fetch m.yaml -o",
        "fetch m.yaml --volume-size 1G -o",
        "lock m.yaml -o",
        "split tiny.tar.zst --volume-size 5M -o",
        "join tiny.tar.zst.001 -o",
        "run --report",
    ],
)
def test_a_mistyped_folder_is_named_and_not_made(folder: Path, bundle: Path, words: str) -> None:
    (folder / "media").mkdir()
    tail = ["--", "true"] if words.startswith("run") else []
    refused = bundle_command(*words.split(), "media/tyop/deep/x.tar.zst", *tail)
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert f"expected an existing folder {folder}/media/tyop/deep to write 'x.tar.zst' in" in said
    assert f"there is {folder}/media, and nothing of that name in it" in said
    assert list((folder / "media").iterdir()) == []


@pytest.mark.parametrize(
    "words", ["fetch m.yaml -o", "lock m.yaml -o", "split tiny.tar.zst -o", "sbom tiny.tar.zst -o", "run --report"]
)
def test_a_pipe_or_a_device_is_not_replaced(folder: Path, bundle: Path, words: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "null").symlink_to(os.devnull)
    tail = ["--", "true"] if words.startswith("run") else []
    for name in ("pipe", "null"):
        refused = bundle_command(*words.split(), name, *tail)
        assert refused.exit_code == 2
        assert f"found a pipe or a device at {name}, which would be replaced" in " ".join(refused.stderr.split())
    assert (folder / "pipe").is_fifo() and (folder / "null").is_symlink()


def test_a_file_in_the_place_of_a_folder_is_named(folder: Path, bundle: Path) -> None:
    refused = bundle_command("split", bundle, "--volume-size", "5M", "-o", "tiny.tar.zst/x")
    assert refused.exit_code == 2 and f"{folder}/tiny.tar.zst is no folder" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (lambda whole: b"", "expected a bundle, found an empty file"),
        (lambda whole: whole[:3], "expected a bundle, found only the first 3 bytes of one"),
        (
            lambda whole: whole[:5000],
            "expected a bundle to end in its index, found other bytes: it was cut short, or something was added",
        ),
        (
            lambda whole: whole[:-1],
            "expected a bundle to end in its index, found other bytes: it was cut short, or something was added",
        ),
        (
            lambda whole: bytes.fromhex("28b52ffd") + bytes(5000),
            "expected a bundle, found 5,004 bytes of another zstd file, such as a plain .tar.zst",
        ),
        (
            lambda whole: b"<!DOCTYPE html>",
            "expected a bundle, found 15 bytes that begin with 3c 21 44 4f 43 54 59 50",
        ),
    ],
    ids=["empty", "three bytes", "first part", "last byte", "other zstd", "a page"],
)
def test_a_file_that_is_no_whole_bundle_is_told_by_what_it_is(
    folder: Path, bundle: Path, content: Callable[[bytes], bytes], found: str
) -> None:
    bundle.write_bytes(content(bundle.read_bytes()))
    done = bundle_command("inspect", bundle)
    assert done.exit_code == 7 and done.stderr.startswith(f"error: {bundle}: {found}\n"), done.stderr


def test_splitting_and_joining_look_for_room_first(
    volumes: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    for words in (("join", volumes[0]), ("split", "away", "--volume-size", "2M", "-o", "again.tar.zst")):
        done = bundle_command(*words)
        assert done.exit_code == 10
        assert "not enough room" in done.stderr
    assert tree(folder) == before
