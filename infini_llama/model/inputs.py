"""What callers give the model, checked and in the form that it wants; what cannot be had is refused with the reason.

Callers are loops and collators for any transformers model, hence the many forms of the same thing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infini_llama.model.cache import InfiniCache

# Lengths of documents for flash attention, from padding-free collators, which give `position_ids` as well. To the
# local attention they mean nothing: its rows are segments.
_ROW_LENGTHS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")


def check_cache(cache: Any) -> InfiniCache | None:
    """Return the cache.

    Raises:
        TypeError: It is another model's.
    """
    if cache is None or isinstance(cache, InfiniCache):
        return cache
    raise TypeError(
        f"expected an InfiniCache, which holds a memory, found {type(cache).__name__}; give none, and the model makes "
        "one, whose size is fixed as that of a static cache is"
    )


def take_documents(
    document_ids: Tensor | None,
    position_ids: Tensor | None,
    attention_mask: Tensor | None,
    cache: InfiniCache | None,
    lengths: dict[str, Any],
) -> Tensor | None:
    """Return the document of each token, `(B or 1, T)`, or None where each row goes on with a single one.

    Args:
        document_ids: As the caller gave them; they win.
        position_ids: `(B or 1, T)`; a document starts where they do not go on by one, as in transformers' own models,
            and as there with neither a mask nor a stream so far. `generate` gives them in other cases, too.
        attention_mask: As the caller gave it.
        cache: The stream so far.
        lengths: Arguments for the local attention, from which lengths of documents are taken away.

    Raises:
        ValueError: Lengths are all that tells of documents.
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
    """Return `(rows, tokens)`, the columns of the tokens given, from a tensor that may cover earlier ones too.

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
    """Refuse what a graph of fixed shapes cannot hold.

    Args:
        **given: Inputs beside the tokens.

    Raises:
        ValueError: torch.export runs, and the number of segments would depend on values.
    """
    # torch 2.7 has the function; earlier ones end with their own message.
    is_exporting = getattr(torch.compiler, "is_exporting", None)
    names = [name for name, value in given.items() if value is not None]
    if names and is_exporting is not None and is_exporting():
        raise ValueError(
            f"torch.export: expected tokens alone, found {', '.join(names)}: how many segments a row has would depend "
            "on the values, and a graph has fixed shapes"
        )


def check_generation(cache_implementation: str | None) -> None:
    """Refuse what `generate` would make for other models.

    Raises:
        ValueError: A kind of cache was asked for.
    """
    if cache_implementation is not None:
        raise ValueError(
            f"expected no cache_implementation, found {cache_implementation!r}: an Infini-Llama carries its memory and "
            "one segment, of a size that is fixed already, and keys and values of all tokens nowhere; leave it out"
        )
