"""Where each row of a stream is: how full its running segment is, and whether its memory holds anything."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class StreamPosition:
    """The position of each row of a stream; shared by all layers.

    Attributes:
        fill: `(B,)`, tokens in the running segment, 0 to S - 1.
        present: `(B,)` bool, whether the memory holds anything.
        document: `(B,)`, id of the document that the running segment belongs to.
        width: R, the largest `fill`, known to the host.
        alike: `fill` and `present` of all rows, if the host knows that they are the same; else None.
    """

    fill: Tensor
    present: Tensor
    document: Tensor
    width: int
    alike: tuple[int, bool] | None

    @classmethod
    def start(cls, rows: int, device: torch.device) -> StreamPosition:
        """Return the position of `rows` streams before their first token."""
        zeros = torch.zeros(rows, dtype=torch.long, device=device)
        # No document has this id, so the first one starts a document; there is no memory to forget.
        return cls(fill=zeros, present=zeros.bool(), document=zeros - 1, width=0, alike=(0, False))
