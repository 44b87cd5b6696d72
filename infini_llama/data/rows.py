"""Documents as rows of segments.

Rule book:

* documents are kept apart: each starts on a fresh segment with an empty memory, and no document's first token is
  predicted from another's last;
* a row is a fixed number of segments, filled with documents in their order. A document that is longer than a segment
  continues in the next, with its memory; one that is longer than the rest of the row continues in the next row, where
  its memory starts empty: rows are independent, so that they can be shuffled;
* the rest of a document's last segment is padding, which is not attended to, remembered or predicted. Documents
  much shorter than a segment waste most of it: choose `segment_length` for the data.

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

    Attributes:
        tokens: Number of tokens in all rows, without padding.
    """

    def __init__(
        self, documents: Documents, *, segment_length: int, segments_per_row: int, padding_id: int
    ) -> None:
        self._documents, self._padding_id = documents, padding_id
        self._segment_length, self._segments_per_row = segment_length, segments_per_row
        # For each document the number of segments up to its end, over all documents.
        self._segment_ends = np.cumsum(-(-documents.lengths // segment_length))
        self.tokens = documents.tokens

    def __len__(self) -> int:
        """Return the number of rows."""
        segments = int(self._segment_ends[-1]) if len(self._segment_ends) else 0
        return -(-segments // self._segments_per_row)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return the model's inputs for one row, each `(segments_per_row * segment_length,)`."""
        length = self._segment_length
        tokens = torch.full((self._segments_per_row * length,), self._padding_id, dtype=torch.int64)
        # 0 for padding, else the document's number, counted from 1.
        documents = torch.zeros_like(tokens)
        first = index * self._segments_per_row
        if not 0 <= first < self._segment_ends[-1]:
            raise IndexError(index)
        for place in range(self._segments_per_row):
            number = int(np.searchsorted(self._segment_ends, first + place, side="right"))
            if number == len(self._documents):
                break
            before = int(self._segment_ends[number - 1]) if number else 0
            segment = self._documents.part(number, (first + place - before) * length, length)
            begin = place * length
            tokens[begin : begin + len(segment)] = segment
            documents[begin : begin + len(segment)] = number + 1
        labels = tokens.masked_fill(documents == 0, IGNORED)
        labels[1:].masked_fill_(documents[1:] != documents[:-1], IGNORED)
        labels[0] = IGNORED
        return {
            "input_ids": tokens,
            "attention_mask": (documents > 0).long(),
            "document_ids": documents,
            "labels": labels,
        }
