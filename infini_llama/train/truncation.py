"""Truncated back-propagation: split rows into parts; the memory continues from part to part, its gradient does not.

Rule book:

* the forward pass is that of the whole row: every part starts from the final state of the part before;
* labels are shifted once for the whole row: the last token of a part predicts the first token of the next;
* the gradient ends where a part begins, so only the activations of one part are kept: RAM use does not depend on the
  length of the row.

The trainer scales losses and exchanges gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from infini_llama.model.cache import InfiniCache

# As `infini_llama.data.IGNORED`; that package imports libraries that neither model nor loss needs.
_IGNORED = -100


def split_into_parts(inputs: dict[str, Any], length: int, num_layers: int) -> Iterator[dict[str, Any]]:
    """Yield the model's arguments for each part of a batch, in order.

    The caller must run the model on a part before it asks for the next one.

    Args:
        inputs: The model's inputs, `(B, T)` tensors, `labels` among them, not shifted; what is no tensor, or one of a
            single number, goes to every part.
        length: Tokens per part; the last part may have fewer.
        num_layers: Number of the model's layers, for the cache that holds the state.
    """
    # Give both: the model computes a loss only if `labels` is given, and with `shift_labels` does not shift again.
    shifted = nn.functional.pad(inputs["labels"][:, 1:], (0, 1), value=_IGNORED)
    cache = InfiniCache(num_layers)
    for start in range(0, shifted.shape[1], length):
        part = slice(start, start + length)
        yield {
            **{name: x[:, part] if isinstance(x, Tensor) and x.dim() else x for name, x in inputs.items()},
            "shift_labels": shifted[:, part].contiguous(),
            "past_key_values": cache,
            "skip_logits": True,
        }
        cache.detach()
