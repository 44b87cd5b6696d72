"""Which row is drawn when: a mixture of sources by weight, each shuffled anew in each of its epochs.

Rule book:

* the row of a draw depends on the seed, the sources, their weights, and the number of the draw alone. So a run goes on
  from any draw, with any number of processes, and nothing is kept that grows with the number of rows;
* of any `_STRETCH` draws from a multiple of it, each source has its share to within one draw for each source. Which
  source comes when in the stretch is shuffled;
* a source is read in a shuffled order; after its last row its next epoch begins, in another order;
* where a run goes on with other weights or other sources, it begins a new mixture: each source goes on where it was;
* a source is known by the digest of its text. It may be moved.

A checkpoint holds the `record` of its order. One of a run before there was such an order has none: such a run goes on
in its own order, that of torch's `RandomSampler`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from infini_llama.data.permutation import Permutation

# Another number for another order: a run must never go on in an order that is silently another one.
VERSION = 2
_STRETCH = 1024
# Weights as whole numbers, so that shares add up exactly however many rows are drawn.
_ONE = 1 << 32


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of rows.

    Attributes:
        name: What it is known by.
        rows: How many rows it has.
        weight: Its share of all draws, in proportion to the other weights.
    """

    name: str
    rows: int
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a checkpoint holds of an order.

    Attributes:
        drawn: Rows that the run has drawn.
        taken: Name of a source -> rows drawn from it.
        weights: Name -> weight, of the present mixture.
        first: Rows that were drawn when that began.
        taken_before: Name -> rows drawn from it by then.
        version: Which order this is.
    """

    drawn: int
    taken: Mapping[str, int]
    weights: Mapping[str, float]
    first: int = 0
    taken_before: Mapping[str, int] = field(default_factory=dict)
    version: int = VERSION


class Order:
    """The rows that a run draws, by the number of the draw.

    Args:
        sources: Where rows come from; their rows are numbered through.
        seed: Seed of the order.
        before: The record in the checkpoint that the run goes on from; None for a new run.
    """

    def __init__(self, sources: Sequence[Source], seed: int, before: Record | None = None) -> None:
        self._sources, self._seed = sources, seed
        weights = {source.name: source.weight for source in sources}
        self._first, self._taken_before = 0, {source.name: 0 for source in sources}
        if before is not None and list(before.weights.items()) == list(weights.items()):
            self._first, self._taken_before = before.first, dict(before.taken_before)
        elif before is not None:
            self._first = before.drawn
            self._taken_before = {name: before.taken.get(name, 0) for name in weights}
        # Each source's share of what those before it leave over.
        rest = [sum(source.weight for source in sources[at:]) for at in range(len(sources))]
        self._shares = [round(_ONE * source.weight / left) for source, left in zip(sources, rest, strict=True)]
        self._starts = [sum(source.rows for source in sources[:at]) for at in range(len(sources))]
        self._epochs: dict[int, tuple[int, Permutation]] = {}
        # The stretch that was drawn from last: its number, and the source of each draw with its draws before.
        self._stretch: tuple[int, list[tuple[int, int]]] = (-1, [])

    def __getitem__(self, draw: int) -> int:
        """Return the number of the row that is drawn; draws count from the start of the run."""
        index, taken = self._find(draw)
        source = self._sources[index]
        epoch, place = divmod(taken, source.rows)
        if self._epochs.get(index, (-1,))[0] != epoch:
            self._epochs[index] = epoch, Permutation(source.rows, "rows", self._seed, source.name, epoch)
        return self._starts[index] + self._epochs[index][1][place]

    def record(self, drawn: int) -> dict[str, Any]:
        """Return what a checkpoint holds of it, as plain values, when so many rows have been drawn."""
        taken = dict(self._taken_before)
        begun = drawn - (drawn - self._first) % _STRETCH
        for index, source in enumerate(self._sources):
            taken[source.name] += self._taken(index, begun - self._first)
        for draw in range(begun, drawn):
            taken[self._sources[self._find(draw)[0]].name] += 1
        return asdict(
            Record(
                drawn=drawn,
                taken=taken,
                weights={source.name: source.weight for source in self._sources},
                first=self._first,
                taken_before=self._taken_before,
            )
        )

    def _find(self, draw: int) -> tuple[int, int]:
        """Return the source of a draw, and how many rows were drawn from it before."""
        if len(self._sources) == 1:
            return 0, self._taken_before[self._sources[0].name] + draw - self._first
        stretch, place = divmod(draw - self._first, _STRETCH)
        if self._stretch[0] != stretch:
            self._stretch = stretch, self._mix(stretch)
        return self._stretch[1][place]

    def _mix(self, stretch: int) -> list[tuple[int, int]]:
        """Return for each draw of a stretch its source, and how many rows were drawn from that before."""
        begin, shuffled = stretch * _STRETCH, Permutation(_STRETCH, "mixture", self._seed, stretch)
        counts = [
            self._taken_before[source.name] + self._taken(index, begin)
            for index, source in enumerate(self._sources)
        ]
        found = []
        for place in range(_STRETCH):
            index = self._source(begin + shuffled[place])
            found.append((index, counts[index]))
            counts[index] += 1
        return found

    def _taken(self, index: int, number: int) -> int:
        """Return how many of the first `number` draws of the mixture, unshuffled, are of a source."""
        for share in self._shares[:index]:
            number -= number * share // _ONE
        return number * self._shares[index] // _ONE

    def _source(self, number: int) -> int:
        """Return which source a draw of the unshuffled mixture is of."""
        for index, share in enumerate(self._shares):
            taken = number * share // _ONE
            if (number + 1) * share // _ONE > taken:
                return index
            number -= taken
        raise AssertionError("the last source takes all that is left")


class Draws(torch.utils.data.Sampler[int]):
    """The rows of a run, from its first draw to its last, for torch's `DataLoader`.

    Args:
        order: The order.
        begin: Number of the first draw; may be below 0, where a run goes on that had smaller batches.
        end: Number after that of the last draw.
        drawn: Draws below this one are skipped by whoever reads, and need not be computed.
    """

    def __init__(self, order: Order, *, begin: int, end: int, drawn: int) -> None:
        self._order, self._begin, self._end, self._drawn = order, begin, end, drawn

    def __len__(self) -> int:
        """Return how many draws there are."""
        return self._end - self._begin

    def __iter__(self) -> Iterator[int]:
        """Yield the number of the row of each draw."""
        for draw in range(self._begin, self._end):
            yield self._order[draw] if draw >= self._drawn else 0
