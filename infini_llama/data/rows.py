"""Documents as rows of segments.

Rule book:

* documents are kept apart: each starts on a fresh segment with an empty memory, and no document's first token is
  predicted from another's last;
* a row is a fixed number of segments, filled with documents in their order. A document that is longer than a segment
  goes on in the next, with its memory; one that is longer than what is left of the row goes on in the next row, where
  its memory starts empty: rows are independent, as shuffling them needs;
* the end of a document's last segment is padding, which is neither attended to, remembered nor predicted. Documents
  much shorter than a segment waste most of it: choose `segment_length` for the data.

A row is put together when it is asked for; what is held is 8 bytes a document.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from infini_llama.data.documents import Documents

# transformers' cross entropy leaves labels of this value out.
IGNORED = -100


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Documents as rows of segments.

    Args:
        documents: What to train on.
        segment_length: Tokens of a segment.
        segments_per_row: Segments of a row.
        padding_id: Any token; it is masked.

    Attributes:
        tokens: How many tokens the rows hold, padding not counted.
    """

    def __init__(
        self, documents: Documents, *, segment_length: int, segments_per_row: int, padding_id: int
    ) -> None:
        self._documents, self._padding_id = documents, padding_id
        self._segment_length, self._segments_per_row = segment_length, segments_per_row
        # Where each document's segments end, counted over all documents.
        self._segment_ends = np.cumsum(-(-documents.lengths // segment_length))
        self.tokens = documents.tokens

    def __len__(self) -> int:
        """Return the number of rows."""
        segments = int(self._segment_ends[-1]) if len(self._segment_ends) else 0
        return -(-segments // self._segments_per_row)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one row as the model takes it, each `(segments_per_row * segment_length,)`."""
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
