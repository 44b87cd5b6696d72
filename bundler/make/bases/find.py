"""Find what a bundle's weights can be stored as differences from: tensors of the same name in weights that are near.

Rule book:

* tensors correspond that have one name, type and shape; or a name that differs in what stands before its first dot, as
  that of a model with another head does. Whether they are near is not taken from names or cards, but tried: some of
  their words are stored both ways, and a base counts if that saves a tenth. So another seed of the same architecture is
  no base, and a wrong card does no harm;
* a base comes before what is stored as a difference from it, in the order of the tar stream; or it is in the bundle
  that a delta is made against. A file may have several, where weights are cut into files otherwise;
* equal contents give equal answers: nothing depends on the number of threads, or on time;
* a base is never so far up a row of differences that a reader would refuse it (`bundler.format.contents.bases`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import BinaryIO

from bundler.format.codec.codecs import (
    BY_WIDTH,
    DEFAULT_LEVEL,
    DIFFERENCES_BY_WIDTH,
    encode_difference,
    room_bytes,
)
from bundler.format.codec.safetensors import Run, Tensor, join_runs, read_tensors
from bundler.format.contents.bases import (
    MAX_DEPTH,
    MIN_BASE_BYTES,
    BasePlace,
    Bases,
    BaseSpan,
    Contents,
    DifferenceRun,
)
from bundler.format.cut import LARGE_BLOB_BYTES
from bundler.plan.layout import Blob

# Of tensors that correspond so many parts are tried, of so many bytes each.
_SAMPLES = 16
_SAMPLE_BYTES = 64 << 10
# A base counts if a difference from it takes at most this share of what the words take by themselves.
_WORTHWHILE = 0.9

# A base, and how much later in it a tensor begins.
_Link = tuple[str, int]
_Opener = Callable[[Blob], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True)
class FoundBases:
    """What a bundle's contents are stored as differences from.

    Attributes:
        bases: Contents (sha256) that have bases -> these.
        runs: Of these contents the words, those with a base among them.
    """

    bases: Bases
    runs: Mapping[str, list[Run]]


class BaseFinder:
    """Looks for bases among the contents that it was shown.

    Args:
        contents: Where all contents can be read.
        open_blob: Opens the content of a blob.
    """

    def __init__(self, contents: Contents, open_blob: _Opener) -> None:
        self._contents = contents
        self._open = open_blob
        # What corresponds: name, type and shape -> content -> where it begins.
        self._known: dict[tuple[str, str, str], dict[str, int]] = {}
        # The same, by names without what stands before their first dot.
        self._shorter: dict[tuple[str, str, str], dict[str, int]] = {}
        self._depths: dict[str, int] = {}
        self._room = memoryview(bytearray(3 * room_bytes(_SAMPLE_BYTES)))

    def show(self, blob: Blob) -> None:
        """Take a content for a possible base, wherever it comes from."""
        self._add(blob.sha256, self._read_tensors(blob), 0)

    def find(self, blobs: Iterable[Blob]) -> FoundBases:
        """Find the bases of contents, each among those that were shown and those before it.

        Args:
            blobs: In the order of the tar stream.

        Raises:
            OSError: A file cannot be read.
        """
        bases: dict[str, tuple[str, ...]] = {}
        runs: dict[str, list[Run]] = {}
        for blob in blobs:
            if blob.size_bytes < max(LARGE_BLOB_BYTES, MIN_BASE_BYTES) or blob.sha256 in self._depths:
                continue
            tensors = self._read_tensors(blob)
            order = self._rank(blob.sha256, tensors)
            found = self._assign(tensors, order, join_runs(tensors, blob.size_bytes)) if order else []
            used = dict(
                sorted((run.base.place.number, run.base.sha256) for run in found if isinstance(run, DifferenceRun))
            ).values()
            if used:
                bases[blob.sha256] = tuple(used)
                runs[blob.sha256] = found
            self._add(blob.sha256, tensors, max((1 + self._depths[base] for base in used), default=0))
        return FoundBases(bases, runs)

    def _read_tensors(self, blob: Blob) -> list[Tensor]:
        with self._open(blob) as stream:
            return read_tensors(stream, blob.size_bytes)

    def _add(self, sha256: str, tensors: list[Tensor], depth: int) -> None:
        self._depths[sha256] = depth
        for tensor in tensors:
            self._known.setdefault(tensor.kind, {})[sha256] = tensor.run.start
            self._shorter.setdefault(_shorten(tensor), {})[sha256] = tensor.run.start

    def _find_like(self, tensor: Tensor) -> dict[str, int]:
        """Return the contents that have a tensor like this one -> where it begins; its own name before shorter ones."""
        short = _shorten(tensor)
        return {
            **self._shorter.get(short, {}),
            **self._shorter.get(tensor.kind, {}),
            **self._known.get(short, {}),
            **self._known.get(tensor.kind, {}),
        }

    def _rank(self, sha256: str, tensors: list[Tensor]) -> list[str]:
        """Return the contents that `tensors` are worth storing as differences from, the nearest first."""
        shared: dict[str, list[tuple[Run, int]]] = {}
        for tensor in tensors:
            for base, start in self._find_like(tensor).items():
                if tensor.run.width in DIFFERENCES_BY_WIDTH and self._depths[base] < MAX_DEPTH:
                    shared.setdefault(base, []).append((tensor.run, start))
        shares = {
            base: self._try(sha256, base, pairs)
            for base, pairs in shared.items()
            if sum(run.size_bytes for run, _ in pairs) >= MIN_BASE_BYTES
        }
        # The first that was shown, where two are as near.
        return sorted(
            (base for base, share in shares.items() if share <= _WORTHWHILE), key=lambda base: shares[base]
        )

    def _try(self, sha256: str, base: str, pairs: list[tuple[Run, int]]) -> float:
        """Return what differences take over what the words take by themselves, of some parts."""
        alone = against = 0
        total = sum(run.size_bytes for run, _ in pairs)
        positions = iter([total * number // _SAMPLES for number in range(_SAMPLES)])
        wanted, begin = next(positions), 0
        for run, start in pairs:
            while begin <= wanted < begin + run.size_bytes:
                size = min(_SAMPLE_BYTES, run.size_bytes)
                skipped = min(wanted - begin, run.size_bytes - size) // run.width * run.width
                ours, theirs = self._room[:size], self._room[size : 2 * size]
                self._contents.read_into(sha256, run.start + skipped, ours)
                self._contents.read_into(base, start + skipped, theirs)
                room = self._room[2 * size :]
                alone += sum(map(len, BY_WIDTH[run.width].encode(ours, DEFAULT_LEVEL, room)))
                against += sum(map(len, encode_difference(ours, theirs, run.width)[1]))
                wanted = next(positions, total)
            begin += run.size_bytes
        return against / alone

    def _assign(self, tensors: list[Tensor], order: list[str], runs: list[Run]) -> list[Run]:
        """Give words a base: where neighbours have another, or theirs begins elsewhere, a run is cut between them."""
        cut: list[tuple[Run, _Link | None]] = []
        rest = deque(tensors)
        for run in runs:
            parts: list[tuple[Run, _Link | None]] = []
            while rest and rest[0].run.stop <= run.stop:
                tensor = rest.popleft()
                link = self._link(tensor, order)
                if parts and parts[-1][1] == link:
                    parts[-1] = (replace(parts[-1][0], stop=tensor.run.stop), link)
                else:
                    parts.append((replace(tensor.run, width=run.width), link))
            can_differ = run.width in DIFFERENCES_BY_WIDTH and not any(
                part.size_bytes % run.width for part, _ in parts
            )
            cut += parts if parts and can_differ else [(run, None)]
        numbers = {base: number for number, base in enumerate(_list_used(order, cut))}
        return [self._give_base(run, link, numbers) if link else run for run, link in cut]

    def _link(self, tensor: Tensor, order: list[str]) -> _Link | None:
        known = self._find_like(tensor)
        base = next((base for base in order if base in known), None)
        return (base, known[base] - tensor.run.start) if base is not None else None

    def _give_base(self, run: Run, link: _Link, numbers: dict[str, int]) -> DifferenceRun:
        base, shift = link
        place = BasePlace(numbers[base], run.start + shift)
        return DifferenceRun(run.start, run.stop, run.width, BaseSpan(place, base, self._contents))


def _shorten(tensor: Tensor) -> tuple[str, str, str]:
    name, dtype, shape = tensor.kind
    return name.partition(".")[2] or name, dtype, shape


def _list_used(order: list[str], cut: list[tuple[Run, _Link | None]]) -> list[str]:
    used = {link[0] for _, link in cut if link}
    return [base for base in order if base in used]
