"""Check the model's inputs and bring them into one form; refuse what the model does not support, with the reason.

Callers are training loops and collators for any transformers model, so the same information comes in several forms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infini_llama.model.cache import InfiniCache
from infini_llama.model.position import StreamPosition

# Padding-free collators give these lengths of documents for flash attention, and `position_ids` too. The local
# attention must not get them: its rows are segments.
_ROW_LENGTHS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")


def check_cache(cache: Any) -> InfiniCache | None:
    """Check that a cache is an `InfiniCache`, and return it.

    Raises:
        TypeError: It is the cache of another model.
    """
    if cache is None or isinstance(cache, InfiniCache):
        return cache
    raise TypeError(
        f"expected an InfiniCache, which holds a memory, found {type(cache).__name__}; without it the model makes "
        "one, whose size is fixed like that of a static cache"
    )


def take_position(hidden_states: Tensor, cache: InfiniCache | None, row_share: Any) -> StreamPosition:
    """Return the position at which tokens go on.

    Args:
        hidden_states: `(B, T, hidden_size)`.
        cache: The state of the stream so far.
        row_share: What to know of other ranks that hold parts of these rows.

    Raises:
        ValueError: There are both: a stream goes on from its end, which another rank holds.
    """
    if row_share is not None and cache is not None:
        raise ValueError("expected no cache with a share of rows, found one: give use_cache=False, and whole rows")
    if row_share is not None:
        position: StreamPosition = row_share.before
        return position
    return (StreamPosition if cache is None else cache).start(len(hidden_states), hidden_states.device)


def take_documents(
    document_ids: Tensor | None,
    position_ids: Tensor | None,
    attention_mask: Tensor | None,
    cache: InfiniCache | None,
    lengths: dict[str, Any],
) -> Tensor | None:
    """Return the document of each token, `(B or 1, T)`; None if each row continues a single document.

    Args:
        document_ids: The caller's documents; if given, they are used.
        position_ids: `(B or 1, T)`; a document starts where they do not increase by one. As in transformers' own
            models, this is used only without a mask and without an earlier stream, because `generate` gives them in
            other cases, too.
        attention_mask: The caller's mask.
        cache: The state of the stream so far.
        lengths: Arguments for the local attention; lengths of documents are removed from it.

    Raises:
        ValueError: Lengths of documents were given, and neither `position_ids` nor `document_ids`.
    """
    given = [name for name in _ROW_LENGTHS if lengths.pop(name, None) is not None]
    if document_ids is not None:
        return document_ids
    if position_ids is None:
        if given:
            raise ValueError(f"expected position_ids or document_ids of packed documents, found {given[0]} alone")
        return None
    if attention_mask is not None or cache is not None:
        return None
    starts = position_ids.diff(prepend=position_ids[:, :1] - 1) != 1
    return starts.cumsum(1) if starts.any() else None


def take_columns(x: Tensor | None, name: str, rows: int, tokens: int) -> Tensor | None:
    """Return the last `tokens` columns of a tensor that may also have columns for earlier tokens, as `(rows, tokens)`.

    Raises:
        ValueError: It has another shape.
    """
    if x is None:
        return None
    if x.dim() == 4:
        raise ValueError(
            f"expected {name} of shape ({rows}, {tokens} or more), found {tuple(x.shape)}: who sees whom follows from "
            "segments and memory, and cannot be given token by token; tell documents apart by document_ids"
        )
    if x.dim() != 2 or x.shape[0] not in (1, rows) or x.shape[1] < tokens:
        raise ValueError(f"expected {name} of shape ({rows}, {tokens} or more), found {tuple(x.shape)}")
    return x[:, -tokens:].expand(rows, -1)


def check_export(**given: Tensor | None) -> None:
    """Refuse inputs that torch.export cannot support.

    Args:
        **given: The inputs other than tokens.

    Raises:
        ValueError: torch.export runs, and the number of segments would depend on the values of an input.
    """
    # torch has this function since 2.7; earlier versions fail with their own message.
    is_exporting = getattr(torch.compiler, "is_exporting", None)
    names = [name for name, value in given.items() if value is not None]
    if names and is_exporting is not None and is_exporting():
        raise ValueError(
            f"torch.export: expected tokens alone, found {', '.join(names)}: how many segments a row has would depend "
            "on the values, and a graph has fixed shapes"
        )


def check_generation(cache_implementation: str | None) -> None:
    """Refuse the caches that `generate` makes for other models.

    Raises:
        ValueError: `cache_implementation` is given.
    """
    if cache_implementation is not None:
        raise ValueError(
            f"expected no cache_implementation, found {cache_implementation!r}: an Infini-Llama keeps its memory and "
            "one segment, of a fixed size, and never keys and values of all tokens; leave it out"
        )
