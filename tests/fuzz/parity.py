"""Fuzzes `bundle repair`: files of parity, as they are or with a right seal, beside a bundle that lacks its end."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from bundler.parity.bundle import make_bundle_parity
from bundler.parity.repair import repair
from tests.fuzz.seals import seal_parity
from tests.fuzz.targets import accepts
from tests.support.bundles import locked_repo, tiny_bundle

_FILES = {"config.json": b'{"a": 1}', "w.bin": bytes(range(256)) * 20}
_LOST_BYTES = 300


class Repaired:
    """A damaged bundle, which is repaired by whatever parity it is given.

    Args:
        folder: Where the bundle is made.
    """

    def __init__(self, folder: Path) -> None:
        self._bundle, parity = make_repairable(folder / "repairable")
        self._whole = self._bundle.read_bytes()
        parity.unlink()

    def __call__(self, data: bytes, folder: Path) -> None:
        """Repair once. Whatever came of it, what is there is the bundle as it was: whole, or without its end."""
        path = folder / "fuzzed.parity"
        mode, rest = data[:1], data[1:]
        path.write_bytes(seal_parity(rest) if mode == b"s" else rest)
        cut = self._whole[:-_LOST_BYTES]
        self._bundle.write_bytes(cut)
        is_repaired = accepts(lambda: repair(self._bundle, [path], jobs=1))
        assert self._bundle.read_bytes() == (self._whole if is_repaired else cut)
        assert [each.name for each in self._bundle.parent.iterdir()] == [self._bundle.name]


def make_repairable(folder: Path) -> tuple[Path, Path]:
    """Return a bundle in a new folder, and its parity."""
    folder.mkdir(parents=True)
    store = folder.with_name("store of parity")
    made = tiny_bundle(store, locked_repo("org/m", _FILES), contents=_FILES.values(), name="whole")
    bundle = folder / made.name
    bundle.write_bytes(made.read_bytes())
    [parity] = make_bundle_parity([bundle], Fraction(1, 2)).files
    return bundle, parity


def parity_seeds(folder: Path) -> list[bytes]:
    """Return parity of that bundle: whole, with one head, and damaged."""
    _, parity = make_repairable(folder / "repairable")
    whole = parity.read_bytes()
    return [b"r" + whole, b"s" + whole, b"r" + whole[: len(whole) // 2], b"r" + bytes(99) + whole[99:]]
