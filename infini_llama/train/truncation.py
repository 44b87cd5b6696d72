"""Truncated back-propagation: rows in parts, with the memory carried and its history cut between them.

Rule book:

* the forward pass is that of the whole row: every part starts from the state that the one before left behind;
* labels are shifted once, over the whole row: the first token of a part is predicted by the last of the one before;
* the gradient ends where a part begins, and so does what must be kept for it: memory is that of one part, whatever
  the length of the row.

How losses are scaled and gradients reduced is the trainer's affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from infini_llama.data import IGNORED
from infini_llama.model.cache import InfiniCache


def parts(inputs: dict[str, Tensor], length: int, num_layers: int) -> Iterator[dict[str, Any]]:
    """Yield the model's arguments for consecutive parts of a batch; the caller runs the model on each before the next.

    Args:
        inputs: `(B, T)` tensors as the model takes them, `labels` among them, which are not shifted yet.
        length: Tokens of a part; the last may have fewer.
        num_layers: Of the model, for the cache that carries the state.
    """
    # Both, since the model makes a loss only of `labels`, and with `shift_labels` leaves them as they are.
    shifted = nn.functional.pad(inputs["labels"][:, 1:], (0, 1), value=IGNORED)
    cache = InfiniCache(num_layers)
    for start in range(0, shifted.shape[1], length):
        part = {name: x[:, start : start + length] for name, x in inputs.items()}
        yield {
            **part,
            "shift_labels": shifted[:, start : start + length].contiguous(),
            "past_key_values": cache,
            "skip_logits": True,
        }
        cache.detach()
