"""Documents as rows of segments.

Rule book:

* documents are kept apart: none sees another, in a segment or in the memory, and no document's first token is predicted
  from another's last;
* a row is a fixed number of segments, filled with documents in their order. A document that is longer than a segment
  continues in the next, with its memory; one that is longer than the rest of the row continues in the next row, where
  its memory starts empty: rows are independent, so that they can be shuffled;
* a document starts on a fresh segment, and the rest of its last segment is padding, which is not attended to,
  remembered or predicted. Documents much shorter than a segment waste most of it. Or documents share segments, and
  follow each other without padding (see `infini_llama.model.sharing`).

A row is made when it is asked for. In memory there is a number for each `_STRIDE` documents, 2 MB for 10^9 of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from infini_llama.data.documents import Documents

# transformers' cross entropy ignores labels with this value.
IGNORED = -100
_STRIDE = 4096


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Documents as rows of segments.

    Args:
        documents: The documents to train on.
        segment_length: Tokens per segment.
        segments_per_row: Segments per row.
        padding_id: Any token; it is masked.
        share_segments: Whether a document may start inside a segment.

    Attributes:
        tokens: Number of tokens in all rows, without padding.
    """

    def __init__(
        self,
        documents: Documents,
        *,
        segment_length: int,
        segments_per_row: int,
        padding_id: int,
        share_segments: bool = False,
    ) -> None:
        self._documents, self._padding_id = documents, padding_id
        self._row_length = segment_length * segments_per_row
        # Documents start at multiples of so many tokens.
        self._unit = 1 if share_segments else segment_length
        # The number of units before each `_STRIDE`-th document, and of all.
        units = [0]
        self.tokens = 0
        for lengths in documents.lengths(block=_STRIDE):
            units.append(units[-1] + int(self._units(lengths).sum()))
            self.tokens += int(lengths.sum())
        self._before = np.array(units, np.int64)

    @property
    def used_share(self) -> float:
        """Share of the slots of all rows that hold a token."""
        return self.tokens / (len(self) * self._row_length)

    def __len__(self) -> int:
        """Return the number of rows."""
        return -(-int(self._before[-1]) * self._unit // self._row_length)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return the model's inputs for one row, each `(segments_per_row * segment_length,)`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        tokens = torch.full((self._row_length,), self._padding_id, dtype=torch.int64)
        # 0 for padding, else the document's number, counted from 1.
        documents = torch.zeros_like(tokens)
        place = 0
        for number, start in self._documents_from(index * self._row_length // self._unit):
            part = self._documents.part(number, start, self._row_length - place)
            tokens[place : place + len(part)] = part
            documents[place : place + len(part)] = number + 1
            place += -(-len(part) // self._unit) * self._unit
            if place >= self._row_length:
                break
        labels = tokens.masked_fill(documents == 0, IGNORED)
        labels[1:].masked_fill_(documents[1:] != documents[:-1], IGNORED)
        labels[0] = IGNORED
        return {
            "input_ids": tokens,
            "attention_mask": (documents > 0).long(),
            "document_ids": documents,
            "labels": labels,
        }

    def _documents_from(self, unit: int) -> Iterator[tuple[int, int]]:
        """Yield the number of the document at a unit and its token there, then all later ones from their start."""
        block = int(np.searchsorted(self._before, unit, side="right")) - 1
        while block < len(self._before) - 1:
            first = block * _STRIDE
            (lengths,) = self._documents.lengths(first, min(first + _STRIDE, len(self._documents)), block=_STRIDE)
            ends = self._before[block] + np.cumsum(self._units(lengths))
            for number in range(int(np.searchsorted(ends, unit, side="right")), len(ends)):
                if lengths[number]:
                    begin = int(ends[number - 1]) if number else int(self._before[block])
                    yield first + number, max(unit - begin, 0) * self._unit
            block += 1

    def _units(self, lengths: np.ndarray) -> np.ndarray:
        """Return how many units documents of these lengths take."""
        units: np.ndarray = -(-lengths // self._unit)
        return units
