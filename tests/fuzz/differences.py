"""Fuzzes what only bundles of version 3 have: the list of bases, and chunks that are differences from them."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

from bundler.format.contents.bases import BasePlace, bases_text, check_bases, parse_bases
from bundler.format.reader import BundleReader
from bundler.format.stream import BundleStream
from bundler.plan.lock import LockedFile
from bundler.verify.bundle_file import verify_bundle
from tests.fuzz.frames import runs
from tests.fuzz.targets import accepts
from tests.hostile.bombs import Chunks, lay_out
from tests.support.bundles import lock_of, locked_repo

_MIB = 1 << 20
_NAMES = tuple(letter * 64 for letter in "123")
_FILES = tuple(
    LockedFile(path=f"{name[0]}.bin", size_bytes=_MIB, blob_id=name[:40], sha256=name, blake3="c" * 64)
    for name in _NAMES
)
_LOCK = lock_of(dataclasses.replace(locked_repo("org/m", {}), files=_FILES))
_CUT = b"\0--\0"


def fuzz_differences(data: bytes, folder: Path) -> None:
    """A list of bases; then, for each content but the first, a byte for the codec, and what a chunk of it stores."""
    text, *stored = data.split(_CUT)

    def parse() -> None:
        bases = parse_bases(text)
        assert bases_text(bases) == text
        # Of a delta, more may be: a base that is elsewhere.
        accepts(lambda: check_bases(bases, dict.fromkeys(_NAMES, _MIB), is_delta=True))
        content = lay_out(_LOCK, _cut_into_chunks(stored), bases)
        path = folder / "fuzzed.tar.zst"
        path.write_bytes(content)
        with BundleReader(path) as reader:
            assert reader.bases == bases
            verify_bundle(reader, jobs=1)
        stream = BundleStream(io.BytesIO(content))
        assert stream.bases == bases

    accepts(parse)


def _cut_into_chunks(stored: list[bytes]) -> dict[str, Chunks]:
    """Return the one chunk of each content."""
    pieces = [b"\0" + runs(_MIB), *stored, *[b"\0" + runs(_MIB)] * len(_NAMES)]
    return {
        name: [(piece[0] % 6 if piece else 0, _MIB, piece[1:])]
        for name, piece in zip(_NAMES, pieces, strict=False)
    }


def difference_seeds() -> list[bytes]:
    """Return a difference from a difference, and lists that lead elsewhere than they may."""
    one, two, three = _NAMES
    half, quarter = runs(_MIB // 2) * 2, runs(_MIB // 4) * 4
    place = BasePlace(0, 0).pack()
    first, second = b"\x03" + place + half, b"\x04" + place + quarter
    lists = [
        {two: (one,), three: (two,)},
        {three: (one, two)},
        {one: (two,)},
        {two: (three,), three: (two,)},
        {two: ("f" * 64,)},
    ]
    seeds = [_CUT.join([bases_text(each), first, second]) for each in lists]
    far = b"\x03" + BasePlace(1, _MIB - 2).pack() + half
    return [*seeds, _CUT.join([bases_text(lists[1]), b"\0" + runs(_MIB), far])]
