"""Segments that several documents share, so that short documents leave no slots empty.

A row is cut into segments without regard to its documents. A document sees itself alone all the same:

* inside a segment a token attends to the earlier tokens of its own document;
* a segment is written to the memory as far as its last document goes, and what the memory held of another is forgotten;
* a token reads the memory if its document was the last of the segment before.

So a document that begins inside a segment has a shorter first segment than one that begins with it, and nothing else is
different. All sizes follow from the shape, so nothing is read back from the device.

Dimension letters: B rows, N segments of S slots, T = N * S tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infini_llama.model.position import StreamPosition

# The id of padding, which is a document that nobody predicts. Callers' ids are not negative, and -1 is none yet.
_PADDING = -2


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Which slots belong together.

    Attributes:
        number: `(B, N, S)`, the document of each slot: how many began in this pass, up to it.
        held: `(B, N)`, the document that the memory before each segment is of.
        kept: `(B, N)`, the last document of each segment, which the memory after it is of.
    """

    number: Tensor
    held: Tensor
    kept: Tensor

    @classmethod
    def of(cls, documents: Tensor, segment_length: int, before: StreamPosition) -> Sharing:
        """Return how documents share segments.

        Args:
            documents: `(B, T)`; a change between consecutive tokens starts a new document.
            segment_length: S.
            before: The position of the rows before this pass.
        """
        previous = torch.cat((before.document.unsqueeze(1), documents[:, :-1]), dim=1)
        number = (documents != previous).cumsum(1).unflatten(1, (-1, segment_length))
        kept = number[:, :, -1]
        return cls(number=number, held=torch.cat((torch.zeros_like(kept[:, :1]), kept[:, :-1]), dim=1), kept=kept)

    def reads(self, present: Tensor) -> Tensor:
        """Return which slots read the memory, `(B, N, S)`.

        Args:
            present: `(B, N)`, whether the memory before each segment holds anything.
        """
        return (self.number == self.held.unsqueeze(2)) & present.unsqueeze(2)

    def writes(self) -> Tensor:
        """Return which slots are written to the memory, `(B, N, S)`."""
        return self.number == self.kept.unsqueeze(2)

    def same_document(self) -> Tensor:
        """Return which slots of a segment are of one document, `(B * N, 1, S, S)`."""
        number = self.number.flatten(0, 1)
        return (number.unsqueeze(1) == number.unsqueeze(2)).unsqueeze(1)


def take_shared(
    documents: Tensor, mask: Tensor | None, segment_length: int, before: StreamPosition
) -> tuple[Tensor, StreamPosition]:
    """Check that documents can share segments here, and return them with the position after this pass.

    Args:
        documents: `(B, T)`, a non-negative number per document.
        mask: `(B, T)`, 0 for padding; None for none.
        segment_length: S.
        before: The position of the rows before this pass.

    Returns:
        The documents, with padding as one of its own; and the position after this pass.

    Raises:
        ValueError: The tokens are no whole segments, or the stream is inside one.
    """
    tokens = documents.shape[1]
    if before.width or tokens % segment_length:
        raise ValueError(
            f"expected whole segments of {segment_length} tokens where documents share them, found "
            f"{before.width} tokens of a running one and {tokens} more; without share_segments any number will do"
        )
    if mask is not None:
        documents = torch.where(mask.bool(), documents, _PADDING)
    zeros = torch.zeros_like(before.fill)
    after = StreamPosition(fill=zeros, present=zeros == 0, document=documents[:, -1], width=0, alike=(0, True))
    return documents, after
