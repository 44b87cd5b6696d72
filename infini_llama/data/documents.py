"""Documents as runs of tokens in one array, which may be a memory map larger than memory.

Nothing here has a number for each document in RAM: where documents end is a memory map too, 8 bytes each, and read in
blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from infini_llama.data.tokens_on_demand import TokensOnDemand

_BLOCK = 1 << 20


class Documents:
    """Tokenized documents.

    Args:
        tokens: All tokens, one document after another, of any integer type; or what makes those that are asked for.
        ends: Where each document ends in `tokens`; it begins where the one before ends.
        chosen: Which documents these are; None for all.
    """

    def __init__(self, tokens: np.ndarray | TokensOnDemand, ends: np.ndarray, chosen: Share | None = None) -> None:
        self._tokens, self._ends, self._chosen = tokens, ends, chosen
        self._count = len(ends) if chosen is None else chosen.count(len(ends))

    @classmethod
    def of(cls, documents: Sequence[Sequence[int]]) -> Documents:
        """Return documents made from lists of tokens in memory."""
        ends = np.cumsum([len(tokens) for tokens in documents], dtype=np.int64)
        tokens = np.array([token for document in documents for token in document], dtype=np.int64)
        return cls(tokens, ends)

    @property
    def token_type(self) -> str:
        """Name of the integer type of a token."""
        return str(self._tokens.dtype.name)

    @property
    def tokens(self) -> int:
        """Number of tokens of all documents."""
        return sum(int(lengths.sum()) for lengths in self.lengths())

    @property
    def longest(self) -> int:
        """Number of tokens of the longest document; 0 if there is none."""
        return max((int(lengths.max()) for lengths in self.lengths()), default=0)

    def __len__(self) -> int:
        """Return the number of documents."""
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        """Return one document's tokens, `(length,)`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        begin, end = self._bounds(index)
        return self.part(index, 0, end - begin)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each document's tokens."""
        return (self[index] for index in range(len(self)))

    def lengths(self, first: int = 0, last: int | None = None, *, block: int = _BLOCK) -> Iterator[np.ndarray]:
        """Yield the numbers of tokens of documents `first` to `last` (not included; None for all), in blocks."""
        last = len(self) if last is None else last
        for start in range(first, last, block):
            yield self._lengths(start, min(start + block, last))

    def part(self, index: int, start: int, length: int) -> Tensor:
        """Return at most `length` tokens of a document, from token `start`."""
        begin, end = self._bounds(index)
        return torch.from_numpy(self._tokens[begin + start : min(begin + start + length, end)].astype(np.int64))

    def split(self, fraction: float) -> tuple[Documents, Documents]:
        """Split the documents in two: the second part has the share `fraction` of them, taken at even distances."""
        assert self._chosen is None, "documents are split once"
        kept, taken = (Share(fraction, taken=taken) for taken in (False, True))
        return Documents(self._tokens, self._ends, kept), Documents(self._tokens, self._ends, taken)

    def _bounds(self, index: int) -> tuple[int, int]:
        """Return where a document begins and ends."""
        place = index if self._chosen is None else self._chosen.place(index)
        return int(self._ends[place - 1]) if place else 0, int(self._ends[place])

    def _lengths(self, first: int, last: int) -> np.ndarray:
        if self._chosen is None:
            begin, end = first, last
        else:
            begin, end = self._chosen.place(first), self._chosen.place(last - 1) + 1
        ends = np.asarray(self._ends[begin:end])
        lengths = np.diff(ends, prepend=self._ends[begin - 1] if begin else 0)
        return lengths if self._chosen is None else lengths[self._chosen.has(begin, end)]


class Share:
    """Every so-many-th document, or all others; the place of each is computed and not kept.

    Args:
        fraction: The share of documents that are taken, at even distances: document i if there is a whole number
            above i * fraction and up to (i + 1) * fraction.
        taken: Whether these are the ones that are taken, or the others.
    """

    def __init__(self, fraction: float, *, taken: bool) -> None:
        self._fraction, self._taken = fraction, taken

    def count(self, documents: int) -> int:
        """Return how many of the first `documents` are in this share."""
        taken = math.floor(documents * self._fraction)
        return taken if self._taken else documents - taken

    def has(self, first: int, last: int) -> np.ndarray:
        """Return which of the documents `first` to `last` (not included) are in this share."""
        below = np.floor(np.arange(first, last + 1) * self._fraction)
        taken: np.ndarray = below[1:] > below[:-1]
        return taken if self._taken else ~taken

    def place(self, index: int) -> int:
        """Return the number among all documents of this share's document `index`."""
        share = self._fraction if self._taken else 1 - self._fraction
        # Near it; rounding may be off by one.
        place = max(int(index / share) - 2, 0)
        while self.count(place + 1) <= index:
            place += 1
        while place and self.count(place) > index:
            place -= 1
        return place
