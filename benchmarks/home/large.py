"""What a generation of many files costs: ``python -m benchmarks.home.large``.

Two generations of one bundle share all content and differ in their commit, so that the second one is names only. What
it adds to the home is counted: links, folders, files, and the room of all of them as the file system gives it. Then the
pointer moves between the two, by the function and by the command. Beside it stands what the digests of an installation
take per GB: BLAKE3 alone, and with those that a lock claims besides. With `--write` the tables replace those in
README.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.home.run import cpu_seconds, run_bundle
from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.section import circumstances, publish, spread
from bundler.files.digest import Algorithm, Hasher
from bundler.home.generations.rollback import rollback
from bundler.home.home import Home
from tests.support.bundles import locked_repo, tiny_bundle

MARKS = Marks("bench-home-large")
TARGET_ROLLBACK_SECONDS = 0.5
_PIECE_BYTES = 4 << 20
_HASHED: dict[str, tuple[Algorithm, ...]] = {
    "BLAKE3 alone": ("blake3",),
    "and SHA-256, of an LFS file": ("blake3", "sha256"),
    "and SHA-256 and git's blob id, of any other": ("blake3", "sha256", "git_sha1"),
}


@dataclass(frozen=True)
class Names:
    """What stands in a folder.

    Attributes:
        links: Symbolic links.
        folders: Folders.
        files: Inodes of files.
        room_bytes: Room of all inodes, in blocks of the file system.
    """

    links: int
    folders: int
    files: int
    room_bytes: int


@dataclass(frozen=True)
class Large:
    """Readings of one bundle of many files.

    Attributes:
        files: How many.
        install_seconds: Wall clock of the first and the second installation.
        added: What the second one added to the home.
        rollbacks: Seconds of a rollback, by what was timed.
    """

    files: int
    install_seconds: tuple[float, float]
    added: Names
    rollbacks: dict[str, list[float]]


def count_names(folder: Path) -> Names:
    """Count each inode below a folder once."""
    seen: set[int] = set()
    links = folders = files = room = 0
    for path, below, names in os.walk(folder):
        for name in (*below, *names):
            status = os.lstat(f"{path}/{name}")
            if status.st_ino in seen:
                continue
            seen.add(status.st_ino)
            room += status.st_blocks * 512
            if os.path.islink(f"{path}/{name}"):  # noqa: PTH114 -- strings: a Path for each takes seconds
                links += 1
            elif name in below:
                folders += 1
            else:
                files += 1
    return Names(links, folders, files, room)


def measure(work: Path, *, files: int, rounds: int) -> Large:
    """Install two generations that share all content, and roll back and forth."""
    contents = {f"d{number % 100}/f{number}.txt": f"{number}".encode() for number in range(files)}
    home = work / "home"
    seconds, counted = [], []
    for version in ("a", "b"):
        repo = locked_repo("org/many", contents, commit=version * 40)
        bundle = tiny_bundle(work / version, repo, contents=contents.values(), name="many")
        seconds.append(_time(partial(run_bundle, "install", bundle, "--hf-home", home)))
        counted.append(count_names(home))
    first, second = counted
    added = Names(
        second.links - first.links,
        second.folders - first.folders,
        second.files - first.files,
        second.room_bytes - first.room_bytes,
    )
    digests = [bundle.digest for bundle in Home(home).generations("many")]
    rollbacks: dict[str, list[float]] = {}
    for number in range(rounds):
        # To the older one, and back to the newer.
        to = digests[1 - number % 2]
        rollbacks.setdefault("`rollback(…)`", []).append(_time(partial(rollback, "many", home, to)))
    for number in range(rounds):
        to = digests[(rounds + 1 - number) % 2]
        work_of = partial(run_bundle, "rollback", "many", to, "--hf-home", home)
        rollbacks.setdefault("`bundle rollback many DIGEST`", []).append(_time(work_of))
    return Large(files, (seconds[0], seconds[1]), added, rollbacks)


def measure_hashing(size_bytes: int) -> dict[str, float]:
    """Return seconds of CPU per GB of each set of digests, on one core."""
    piece = os.urandom(_PIECE_BYTES)
    count = max(size_bytes // _PIECE_BYTES, 1)

    def hash_all(algorithms: Sequence[Algorithm]) -> None:
        hasher = Hasher(tuple(algorithms), size_bytes=count * _PIECE_BYTES)
        for _ in range(count):
            hasher.update(piece)
        hasher.result()

    return {
        what: cpu_seconds(partial(hash_all, algorithms)) / (count * _PIECE_BYTES) * 1e9
        for what, algorithms in _HASHED.items()
    }


def _time(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def markdown(large: Large, hashing: dict[str, float]) -> str:
    """Return both tables."""
    added = large.added
    lines = [
        f"| two generations of {large.files:,} files that share all content | |",
        "| --- | --- |",
        f"| the first installation | {large.install_seconds[0]:.1f} s |",
        f"| the second one | {large.install_seconds[1]:.1f} s |",
        f"| it adds | {added.links:,} links, {added.folders:,} folders, {added.files:,} files |",
        f"| and takes | {added.room_bytes / 1e6:.1f} MB of disk, {added.room_bytes / large.files:.0f} bytes a file |",
    ]
    for what, seconds in large.rollbacks.items():
        median = statistics.median(seconds)
        verdict = "reached" if median <= TARGET_ROLLBACK_SECONDS else "**not reached**"
        lines.append(f"| {what} | {spread(seconds)}, {verdict}: {TARGET_ROLLBACK_SECONDS:g} |")
    lines += ["", "| digests of what is installed | CPU per GB |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {what} | {seconds:.2f} s |" for what, seconds in hashing.items())])


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Measure what a generation of many files costs.")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hash-bytes", type=int, default=1 << 30)
    parser.add_argument("--write", action="store_true", help="replace the tables in benchmarks/README.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-home-") as folder:
        before = machine.load()
        hashing = measure_hashing(options.hash_bytes)
        large = measure(Path(folder), files=options.files, rounds=options.rounds)
        known = circumstances(Path(folder), before, f"{options.rounds} rounds")
    publish(MARKS, f"{known}\n\n{markdown(large, hashing)}", write=options.write)


if __name__ == "__main__":
    main()
