"""`bundle cat`: one file or one tensor, verified, from a file or an address, and little else read."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.network.ranged import RangedServer

TENSORS = {name: random.Random(name).randbytes(3 << 20) for name in ("a.weight", "b:weight", "c.weight")}


def safetensors(tensors: dict[str, bytes]) -> bytes:
    header, at = {}, 0
    for name, content in tensors.items():
        header[name] = {"dtype": "BF16", "shape": [len(content) // 2], "data_offsets": [at, at + len(content)]}
        at += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(tensors.values())


FILES = {"model.safetensors": safetensors(TENSORS), "config.json": b'{"a": 1}', "empty": b""}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repo = locked_repo("org/m", FILES, aliases=["m"], lfs=["model.safetensors"])
    return tiny_bundle(tmp_path_factory.mktemp("made"), repo, contents=FILES.values())


def cat(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, ["cat", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_that_of_the_repo_or_its_alias(packed: Path, name: str) -> None:
    assert cat(packed, "org/m", name).stdout_bytes == FILES[name]
    assert cat(packed, "m", name).stdout_bytes == FILES[name]


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_costs_the_wire_little_more_than_its_bytes(packed: Path, name: str) -> None:
    with RangedServer({"/tiny.tar.zst": packed.read_bytes()}) as web:
        done = cat(f"{web.url}/tiny.tar.zst", "m", f"model.safetensors:{name}")
        assert done.stdout_bytes == TENSORS[name]
        assert web.sent_bytes < (3 << 20) + 300_000


@pytest.mark.parametrize("words", [("org/n", "empty"), ("m", "confg.json"), ("m", "model.safetensors:a.wait")])
def test_what_is_not_there_is_told_with_what_is_near(packed: Path, words: tuple[str, str]) -> None:
    assert "hint: " in cat(packed, *words, code=9).stderr


def test_a_file_without_tensors_says_so(packed: Path) -> None:
    cat(packed, "m", "config.json:a", code=7)


def test_a_damaged_chunk_ends_it_before_its_bytes(packed: Path, tmp_path: Path) -> None:
    damaged = bytearray(packed.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    copy = tmp_path / "tiny.tar.zst"
    copy.write_bytes(damaged)
    done = cat(copy, "m", "model.safetensors", code=6)
    assert FILES["model.safetensors"].startswith(done.stdout_bytes)
    assert len(done.stdout_bytes) < len(FILES["model.safetensors"])
