"""Of `make fuzz` what runs without atheris: what it starts from, what it once found, and random changes of both."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bundler.errors import FormatError
from bundler.format.chunk import decode_chunk
from bundler.format.index import ChunkRecord
from tests.fuzz.corpus import make_seeds
from tests.fuzz.frames import broken_frames, runs
from tests.fuzz.known import NAMES, make_target

# What a run of `make fuzz` found, each of which ended in a traceback once.
FOUND = {
    "manifest": [
        b"version: 1_\nname: tiny\n",
        b"version: 1\nname: tiny\nmodels: [{repo_id: a/b, revision: 1__2}]\n",
    ],
    "policy": [
        "version: 1\nrules: []\n\0--\0a@b.c ssh-ed25519 \u00e9\n".encode(),
        b'version: 1\nrules: []\n\0--\0"\n',
    ],
}
_CHANGES = 40


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    return make_seeds(tmp_path_factory.mktemp("seeds"))


def _change(seed: bytes, dice: random.Random) -> bytes:
    changed = bytearray(seed)
    for _ in range(dice.randrange(1, 5)):
        place = dice.randrange(len(changed) + 1)
        match dice.randrange(4):
            case 0:
                changed[place : place + 1] = dice.randbytes(1)
            case 1:
                del changed[place : place + dice.randrange(64)]
            case 2:
                changed[place:place] = changed[dice.randrange(len(changed) + 1) :][:64]
            case 3:
                changed[place : place + 4] = dice.choice([b"\xff" * 4, bytes(4), b"\0\0\0\x80", b"9999"])
    return bytes(changed)


@pytest.mark.parametrize("name", NAMES)
def test_what_others_send_ends_in_an_answer_or_an_error_of_ours(
    tmp_path: Path, seeds: dict[str, list[bytes]], name: str
) -> None:
    assert set(seeds) == set(NAMES)
    target, dice = make_target(name, tmp_path), random.Random(name)
    for content in [*seeds[name], *FOUND.get(name, ())]:
        target(content, tmp_path)
    for _ in range(_CHANGES):
        target(_change(dice.choice(seeds[name]), dice), tmp_path)


RIGHT = {"right", "stored", "window of 1 KiB", "unused bit"}


@pytest.mark.parametrize("codec", [0, 1, 2])
@pytest.mark.parametrize("name", broken_frames())
def test_a_frame_that_breaks_the_rules_of_zstd_is_refused(name: str, codec: int) -> None:
    width = 1 << codec
    frames = broken_frames()[name] * width
    record = ChunkRecord(codec, 64 * width, len(frames), b"")
    if name in RIGHT:
        assert len(decode_chunk(record, memoryview(frames), number=0)) == 64 * width
    else:
        with pytest.raises(FormatError):
            decode_chunk(record, memoryview(frames), number=0)


def test_run_length_blocks_decode_to_what_they_say() -> None:
    frames = runs(300_000)
    raw = decode_chunk(ChunkRecord(0, 300_000, len(frames), b""), memoryview(frames), number=0)
    assert raw == bytes(300_000)
