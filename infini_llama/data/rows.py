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

A row is made when it is asked for; only 8 bytes per document are kept in memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from infini_llama.data.documents import Documents

# transformers' cross entropy ignores labels with this value.
IGNORED = -100


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
        # For each document the number of units up to its end, over all documents.
        self._ends = np.cumsum(-(-documents.lengths // self._unit))
        self.tokens = documents.tokens

    @property
    def used_share(self) -> float:
        """Share of the slots of all rows that hold a token."""
        return self.tokens / (len(self) * self._row_length)

    def __len__(self) -> int:
        """Return the number of rows."""
        units = int(self._ends[-1]) if len(self._ends) else 0
        return -(-units * self._unit // self._row_length)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return the model's inputs for one row, each `(segments_per_row * segment_length,)`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        tokens = torch.full((self._row_length,), self._padding_id, dtype=torch.int64)
        # 0 for padding, else the document's number, counted from 1.
        documents = torch.zeros_like(tokens)
        first, place = index * self._row_length // self._unit, 0
        while place < self._row_length:
            at = first + place // self._unit
            number = int(np.searchsorted(self._ends, at, side="right"))
            if number == len(self._documents):
                break
            before = int(self._ends[number - 1]) if number else 0
            part = self._documents.part(number, (at - before) * self._unit, self._row_length - place)
            tokens[place : place + len(part)] = part
            documents[place : place + len(part)] = number + 1
            place += -(-len(part) // self._unit) * self._unit
        labels = tokens.masked_fill(documents == 0, IGNORED)
        labels[1:].masked_fill_(documents[1:] != documents[:-1], IGNORED)
        labels[0] = IGNORED
        return {
            "input_ids": tokens,
            "attention_mask": (documents > 0).long(),
            "document_ids": documents,
            "labels": labels,
        }
