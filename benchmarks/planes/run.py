"""What taking weights apart costs, by numpy and by compiled code: ``python -m benchmarks.planes.run``.

Everything is done to the same generated weights in memory, in chunks as a bundle has them, by one thread: CPU time over
raw bytes. In a round every step is done by one code and then by the other, so that a machine that slows down does so
for both; ratios are taken within a round. With `--write` the tables replace those in README.md.

The second table is of planes of exponents, by zstd's coder and by ours, and of what zstd's decoder takes for each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import zstandard

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.section import circumstances, publish, spread
from benchmarks.pack.weights import to_bf16
from bundler.files.digest import blake3_bytes
from bundler.format.codec import codecs
from bundler.format.codec.codecs import BY_WIDTH, DEFAULT_LEVEL, DIFFERENCES_BY_WIDTH, SORTED2, room_bytes
from bundler.format.codec.frames import stored_frame_bytes
from bundler.format.codec.words import Way, compiled_way, numpy_way
from bundler.format.cut import CHUNK_BYTES

MARKS = Marks("bench-planes")
SEED = 20261129

Chunks = list[memoryview]
# What was measured -> one code's seconds per GB, one a round, and the other's.
Readings = dict[str, tuple[list[float], list[float]]]


def generate(width: int, count: int) -> Chunks:
    """Return chunks of normal weights as bf16 or fp32, every chunk with a scale and every row with a factor."""
    random = np.random.default_rng([SEED, width])
    rows = CHUNK_BYTES // width // 1024
    chunks = []
    for _ in range(count):
        factors = (
            0.02 * np.exp(random.normal(0, 0.35)) * np.exp(0.2 * random.standard_normal((rows, 1), np.float32))
        )
        values = (random.standard_normal((rows, 1024), np.float32) * factors).astype(np.float32)
        chunks.append(memoryview(bytearray((to_bf16(values) if width == 2 else values).tobytes())))
    return chunks


def exponents_of(chunks: Chunks, width: int) -> Chunks:
    """Return the plane of exponents of each chunk of words of `width` bytes."""
    words = (np.frombuffer(raw, f"<u{width}") for raw in chunks)
    return [memoryview((each >> 8 * width - 9).astype(np.uint8).tobytes()) for each in words]


def _seconds_per_gb(step: Callable[[int], object], chunks: Chunks) -> float:
    begun = time.thread_time()
    for number in range(len(chunks)):
        step(number)
    return (time.thread_time() - begun) / (sum(map(len, chunks)) / 1e9)


def _steps(way: Way, width: int, chunks: Chunks) -> dict[str, Callable[[int], object]]:
    """Return what is measured of a code for words of `width` bytes."""
    count, bits = CHUNK_BYTES // width, 8 * width
    planes = [codecs._blocks(memoryview(bytearray(count))) for _ in range(width)]
    out, room = memoryview(bytearray(CHUNK_BYTES)), memoryview(bytearray(room_bytes(CHUNK_BYTES)))
    codec, difference = BY_WIDTH[width], DIFFERENCES_BY_WIDTH[width]
    whole = [memoryview(bytearray(count)) for _ in range(width)]
    frames = [memoryview(b"".join(codec.encode(raw, DEFAULT_LEVEL, room))) for raw in chunks]
    exponents = exponents_of(chunks, width)
    frame = memoryview(bytearray(stored_frame_bytes(count)))
    # Chunks are each other's bases: what is measured does not depend on how near they are.
    steps: dict[str, Callable[[int], object]] = {
        f"{bits}-bit words: split": lambda n: way.split(chunks[n], planes),
        f"{bits}-bit words: merge": lambda n: way.merge(planes, out),
        f"{bits}-bit differences: split": lambda n: way.split_differences(chunks[n], chunks[n - 1], planes),
        f"{bits}-bit differences: merge": lambda n: way.merge_differences(planes, chunks[n - 1], out),
        f"{bits}-bit words: code exponents": lambda n: way.encode_exponents(exponents[n], frame),
        f"`{codec.name}`: encode": lambda n: codec.encode(chunks[n], DEFAULT_LEVEL, room),
        f"`{codec.name}`: decode": lambda n: codec.decode(frames[n], CHUNK_BYTES, out),
        f"`{difference.name}`: encode": lambda n: difference.encode(chunks[n], chunks[n - 1]),
    }
    if width == SORTED2.width:
        steps |= {
            "sorted differences: split": lambda n: way.split_sorted(chunks[n], chunks[n - 1], whole),
            "sorted differences: merge": lambda n: way.merge_sorted(whole, chunks[n - 1], out),
            f"`{SORTED2.name}`: encode": lambda n: SORTED2.encode(chunks[n], chunks[n - 1]),
        }
    return steps


def compare_ways(compiled: Way, *, count: int, rounds: int) -> Readings:
    """Measure every step by numpy and by the compiled code."""
    found: Readings = {}
    for width in (2, 4):
        chunks = generate(width, count)
        sides = [(way, _steps(way, width, chunks)) for way in (numpy_way(), compiled)]
        for _ in range(rounds):
            for name in sides[0][1]:
                for number, (way, steps) in enumerate(sides):
                    with patch.object(codecs, "chosen_way", lambda way=way: way):
                        taken = _seconds_per_gb(steps[name], chunks)
                    found.setdefault(name, ([], []))[number].append(taken)
    return found


def compare_encoders(compiled: Way, *, count: int, rounds: int) -> tuple[Readings, float]:
    """Measure zstd's coder and ours on planes of exponents; return also the ratio of their sizes."""
    chunks = generate(2, count)
    exponents = exponents_of(chunks, 2)
    room = memoryview(bytearray(stored_frame_bytes(len(exponents[0]))))
    compressor, decompressor = codecs._reuse_compressor(codecs._EXPONENTS), zstandard.ZstdDecompressor()
    theirs = [compressor.compress(plane) for plane in exponents]
    ours = [bytes(room[: compiled.encode_exponents(plane, room)]) for plane in exponents]
    for frame, plane in zip(ours, exponents, strict=True):
        assert decompressor.decompress(frame) == plane, "zstd decodes it"
    found: Readings = {"exponents: encode": ([], []), "exponents: decode, by zstd": ([], [])}
    sides: list[list[Callable[[int], object]]] = [
        [lambda n: compressor.compress(exponents[n]), lambda n: decompressor.decompress(theirs[n])],
        [lambda n: compiled.encode_exponents(exponents[n], room), lambda n: decompressor.decompress(ours[n])],
    ]
    for _ in range(rounds):
        for place, name in enumerate(found):
            for number, steps in enumerate(sides):
                found[name][number].append(_seconds_per_gb(steps[place], chunks))
    return found, sum(map(len, ours)) / sum(map(len, theirs))


def hashing(*, count: int, rounds: int) -> list[float]:
    """Return what BLAKE3 of the raw bytes takes, for comparison."""
    chunks = generate(2, count)
    return [_seconds_per_gb(lambda n: blake3_bytes(chunks[n]), chunks) for _ in range(rounds)]


def markdown(readings: Readings, names: Iterable[str]) -> str:
    """Return a table of medians, and of the ratio within rounds."""
    first, second = names
    lines = [f"| CPU s/GB | {first} | {second} | {first} over {second} |", "| --- | --- | --- | --- |"]
    for name, (left, right) in readings.items():
        ratios = [one / other for one, other in zip(left, right, strict=True)]
        middle = [sorted(values)[len(values) // 2] for values in (left, right)]
        lines.append(f"| {name} | {middle[0]:.3f} | {middle[1]:.3f} | {spread(ratios, '', 1)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Measure what taking weights apart costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunks", type=int, default=8, help="of 4 MiB")
    parser.add_argument("--write", action="store_true", help="replace the tables in benchmarks/README.md")
    options = parser.parse_args()
    compiled = compiled_way()
    if compiled is None:
        sys.exit("there is no compiled code to measure: install again where there is a C compiler")
    sizes = {"count": options.chunks, "rounds": options.rounds}
    before = machine.load()
    ways = markdown(compare_ways(compiled, **sizes), ("numpy", "compiled"))
    readings, ratio = compare_encoders(compiled, **sizes)
    what = f"{options.chunks} chunks, {options.rounds} rounds; BLAKE3 of the raw bytes: "
    known = circumstances(Path.cwd(), before, f"{what}{spread(hashing(**sizes), ' s/GB', 3)}")
    encoders = markdown(readings, ("zstd", "literals alone"))
    text = (
        f"{known}\n\n{ways}\n\nSizes of planes of exponents, literals alone over zstd: {ratio:.4f}.\n\n{encoders}"
    )
    publish(MARKS, text, write=options.write)


if __name__ == "__main__":
    main()
