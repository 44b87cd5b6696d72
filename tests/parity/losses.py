"""Bundles that lose a tenth of something at random, and are repaired with parity of a tenth: each way to the last byte.

Run as a program: `python -m tests.parity.losses FIRST_SEED COUNT` prints as JSON how often each way was repaired. A way
is a bundle, one file or two dozen volumes, with fewer or with many more chunks than a code has blocks, and what becomes
of it (`WAYS`). Chunks are of 4 KiB here, so that a bundle of 12 MB has as many as one of 12 GB.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from bundler.format.reader import BundleReader
from bundler.format.storage.volumes import volumes_in
from bundler.make.split import split_bundle
from bundler.parity.bundle import make_bundle_parity, repair_bundle
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.chunked import CHUNK_BYTES, cut_small

TENTH = Fraction(1, 10)
# Chunks of a small and of a large bundle.
FEW, MANY = 400, 3000
_VOLUMES = 24


def make_bundles(folder: Path) -> None:
    """Write both bundles below `folder`, each as a file and in volumes, with parity."""
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        for count in (FEW, MANY):
            content = random.Random(count).randbytes(count * CHUNK_BYTES)
            place = folder / f"{count}" / "file"
            whole = tiny_bundle(place, locked_repo("org/m", {"w": content}), contents=[content], name="demo")
            shutil.rmtree(place / "store")
            volumes = folder / f"{count}" / "volumes"
            volumes.mkdir()
            split_bundle(whole, whole.stat().st_size // (_VOLUMES - 1), volumes / whole.name)
            for one in (whole, volumes / whole.name):
                make_bundle_parity([one], TENTH)


def lose_volumes(folder: Path, chance: random.Random) -> None:
    """Delete as many files as are a tenth of the volumes, volumes or parity."""
    for path in chance.sample(sorted(folder.iterdir()), _VOLUMES // 10):
        path.unlink()


def flip_chunks(folder: Path, chance: random.Random) -> None:
    """Change one byte of a tenth of the chunks."""
    for path, start, length in _choose_chunks(folder, chance):
        position = start + chance.randrange(length)
        [byte] = _read(path, position, 1)
        _write(path, position, bytes([byte ^ 1 << chance.randrange(8)]))


def garble_chunks(folder: Path, chance: random.Random) -> None:
    """Change every byte of a tenth of the chunks."""
    for path, start, length in _choose_chunks(folder, chance):
        _write(path, start, bytes(255 - byte for byte in _read(path, start, length)))


def lose_run(folder: Path, chance: random.Random) -> None:
    """Overwrite a tenth of the bytes, in one piece, of one file."""
    path = chance.choice([path for path in sorted(folder.iterdir()) if ".parity" not in path.name])
    size = path.stat().st_size
    start = chance.randrange(size - size // 10)
    _write(path, start, bytes(size // 10))


def cut(folder: Path, chance: random.Random) -> None:
    """Cut a file short by up to a tenth."""
    path = chance.choice([path for path in sorted(folder.iterdir()) if ".parity" not in path.name])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - chance.randrange(1, size // 10))


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    way.__name__: way for way in (lose_volumes, flip_chunks, garble_chunks, lose_run, cut)
}

KINDS = [
    (way, form, count)
    for count in (FEW, MANY)
    for way in WAYS
    for form in ("file", "volumes")
    if (way, form) != ("lose_volumes", "file")
]


def repair_once(bundles: Path, scratch: Path, seed: int) -> str:
    """Damage a copy of a bundle, repair it, compare every byte, and return the name of the way."""
    way, form, count = KINDS[seed % len(KINDS)]
    name = f"{way} of {form}, {count} chunks"
    source = bundles / f"{count}" / form
    shutil.copytree(source, scratch)
    WAYS[way](scratch, random.Random(seed))
    repair_bundle(scratch / "demo.tar.zst", jobs=1)
    for path in source.iterdir():
        if ".parity" not in path.name and (scratch / path.name).read_bytes() != path.read_bytes():
            raise AssertionError(f"seed {seed}, {name}: {path.name} is not what it was")
    shutil.rmtree(scratch)
    return name


def _choose_chunks(folder: Path, chance: random.Random) -> list[tuple[Path, int, int]]:
    """Return (file, place in it, length) of a tenth of the chunks."""
    with BundleReader(folder / "demo.tar.zst") as reader:
        lengths = [chunk.stored_bytes for chunk in reader.index.chunks]
        starts = reader.index.stored_starts()
        volumes = [volume for path in reader.volumes for volume in volumes_in(path)]
        path = reader.place
    found = []
    for number in chance.sample(range(len(lengths)), len(lengths) // 10):
        start, offset = starts[number], 0
        for volume in volumes:
            if volume.header.start <= start:
                path, offset = volume.path, volume.offset - volume.header.start
        assert isinstance(path, Path)
        found.append((path, start + offset, lengths[number]))
    return found


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _write(path: Path, start: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content)


def main() -> None:
    """Repair as many bundles as the command line says."""
    first, count = map(int, sys.argv[1:])
    done: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        make_bundles(Path(folder) / "bundles")
        for seed in range(first, first + count):
            done[repair_once(Path(folder) / "bundles", Path(folder) / "scratch", seed)] += 1
    print(json.dumps(done, indent=2))


if __name__ == "__main__":
    main()
