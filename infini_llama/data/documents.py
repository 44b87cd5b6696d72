"""Documents as runs of tokens in one array, which may be a memory map larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor


class Documents:
    """Tokenized documents.

    Args:
        tokens: All tokens, one document after another, of any integer type.
        starts: Where each document begins in `tokens`.
        ends: Where it ends.
    """

    def __init__(self, tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        self._tokens, self._starts, self._ends = tokens, starts, ends

    @classmethod
    def of(cls, documents: Sequence[Sequence[int]]) -> Documents:
        """Return documents made from lists of tokens in memory."""
        ends = np.cumsum([len(tokens) for tokens in documents], dtype=np.int64)
        tokens = np.array([token for document in documents for token in document], dtype=np.int64)
        return cls(tokens, np.concatenate([[0], ends[:-1]]).astype(np.int64), ends)

    @property
    def token_type(self) -> str:
        """Name of the integer type of a token."""
        return str(self._tokens.dtype.name)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each document, `(documents,)`."""
        lengths: np.ndarray = self._ends - self._starts
        return lengths

    @property
    def tokens(self) -> int:
        """Number of tokens of all documents."""
        return int(self.lengths.sum())

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._ends)

    def __getitem__(self, index: int) -> Tensor:
        """Return one document's tokens, `(length,)`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.part(index, 0, int(self._ends[index] - self._starts[index]))

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each document's tokens."""
        return (self[index] for index in range(len(self)))

    def part(self, index: int, start: int, length: int) -> Tensor:
        """Return at most `length` tokens of a document, from token `start`."""
        begin = int(self._starts[index]) + start
        end = min(begin + length, int(self._ends[index]))
        return torch.from_numpy(self._tokens[begin:end].astype(np.int64))

    def split(self, fraction: float) -> tuple[Documents, Documents]:
        """Split the documents in two: the second part has the share `fraction` of them, taken at even distances."""
        places = np.floor(np.arange(len(self) + 1) * fraction)
        chosen = places[1:] > places[:-1]
        return self._select(~chosen), self._select(chosen)

    def _select(self, chosen: np.ndarray) -> Documents:
        return Documents(self._tokens, self._starts[chosen], self._ends[chosen])
