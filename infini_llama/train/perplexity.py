"""Measure perplexity by position in the document, with the memory and without it.

Rule book:

* each document is read from its start, a few segments at a time, with the state kept: it may have any length, and RAM
  use is constant;
* "without" is the same model with the gates shut, so only local attention. The difference shows what this model gains
  from its memory, not how good a model trained without memory would be;
* a document's first token has no context and is not counted; every other token is counted once.

Segments are grouped by distance from the document's start, 1, 2, 3-4, 5-8 and so on, because few documents are long.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from infini_llama.model.cache import InfiniCache
from infini_llama.model.gate import MemoryGate
from infini_llama.model.modeling import InfiniLlamaForCausalLM

_SEGMENTS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Perplexities over a range of segments of all documents.

    Attributes:
        first: First segment of the range; segments count from 1.
        last: Last segment of the range.
        tokens: Number of tokens predicted in it.
        with_memory: Perplexity as trained.
        without_memory: Perplexity with the gates shut.
    """

    first: int
    last: int
    tokens: int
    with_memory: float
    without_memory: float


def perplexities(
    model: InfiniLlamaForCausalLM, documents: Iterable[Tensor], *, rank: int = 0, size: int = 1
) -> list[Stretch]:
    """Return the perplexity of each stretch of segments; the last item is that of all segments.

    Args:
        model: The model; it is put into evaluation mode. It may be shared among the ranks.
        documents: Tokens of each document, `(length,)`; they are read twice, and several ranks share them out.
        rank: This rank.
        size: How many ranks there are; all must call this, and get the same.
    """
    model.eval()  # type: ignore[no-untyped-call]
    idle = 0
    if size > 1:
        documents = list(documents)
        passes = [_count_passes(len(document), model.config.segment_length) for document in documents]
        shares = share_out(passes, size)
        work = [sum(passes[index] for index in share) for share in shares]
        documents, idle = [documents[index] for index in shares[rank]], max(work) - work[rank]
    counts: dict[int, int] = defaultdict(int)
    sums: tuple[dict[int, float], dict[int, float]] = (defaultdict(float), defaultdict(float))
    # First all with the gates open: of a model that is shared, all ranks' gates must be open or shut together.
    _add_up(model, documents, sums[0], counts, idle)
    with shut_gates_for_now(model):
        _add_up(model, documents, sums[1], defaultdict(int), idle)
    if size > 1:
        counts, sums = _sum_over_ranks(counts, sums, model.device)
    stretches = [
        _stretch(1 if place == 0 else 2 ** (place - 1) + 1, 2**place, counts[place], *(t[place] for t in sums))
        for place in sorted(counts)
        if counts[place]
    ]
    if not stretches:
        return []
    whole = _stretch(1, stretches[-1].last, sum(counts.values()), *(sum(t.values()) for t in sums))
    return [*stretches, whole]


def share_out(work: Sequence[int], size: int) -> list[list[int]]:
    """Return which items each of `size` ranks does, so that none has much more to do than the others."""
    shares: list[list[int]] = [[] for _ in range(size)]
    loads = [0] * size
    # The longest first, each to who has the least so far.
    for index in sorted(range(len(work)), key=lambda index: -work[index]):
        least = loads.index(min(loads))
        shares[least].append(index)
        loads[least] += work[index]
    return [sorted(share) for share in shares]


def _count_passes(length: int, segment_length: int) -> int:
    """Return how often the model runs for a document."""
    return -(-(length - 1) // (_SEGMENTS_AT_ONCE * segment_length))


def _add_up(
    model: InfiniLlamaForCausalLM,
    documents: Iterable[Tensor],
    totals: dict[int, float],
    counts: dict[int, int],
    idle: int,
) -> None:
    """Add the losses of documents, by stretch, to `totals`, and their number to `counts`.

    Args:
        model: The model.
        documents: This rank's documents; of evaluation again with the gates shut, the same.
        totals: Sums of losses.
        counts: Numbers of tokens.
        idle: How often to run the model for nothing afterwards, because other ranks still need this one's weights.
    """
    length = model.config.segment_length
    for document in documents:
        losses = _losses(model, document.long().to(model.device))
        # The loss at index i is that of token i + 1, and counts for the segment of that token.
        for segment, part in _split_by_segment(losses, length):
            place = (segment - 1).bit_length()
            totals[place] += float(part.sum(dtype=torch.float64))
            counts[place] += len(part)
    with torch.no_grad():
        for _ in range(idle):
            model(torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)


def _sum_over_ranks(
    counts: dict[int, int], sums: tuple[dict[int, float], dict[int, float]], device: torch.device
) -> tuple[dict[int, int], tuple[dict[int, float], dict[int, float]]]:
    # A place is the logarithm of a number of segments.
    tables: tuple[Mapping[int, float], ...] = (counts, *sums)
    table = torch.zeros(3, 64, dtype=torch.float64)
    for row, values in zip(table, tables, strict=True):
        for place, value in values.items():
            row[place] = value
    table = table.to(device)
    distributed.all_reduce(table)
    summed, opened, shut = (dict(enumerate(row)) for row in table.tolist())
    return {place: round(count) for place, count in summed.items()}, (opened, shut)


@contextlib.contextmanager
def shut_gates_for_now(model: nn.Module) -> Iterator[None]:
    """Shut all gates inside the block, and restore them afterwards."""
    gates = [module.bias for module in model.modules() if isinstance(module, MemoryGate)]
    before = [gate.detach().clone() for gate in gates]
    try:
        for gate in gates:
            gate.data.fill_(-math.inf)
        yield
    finally:
        for gate, value in zip(gates, before, strict=True):
            gate.data.copy_(value)


@torch.no_grad()
def _losses(model: InfiniLlamaForCausalLM, document: Tensor) -> Tensor:
    """Return the loss of every token but the first, `(length - 1,)`."""
    cache, losses = InfiniCache(model.config.num_hidden_layers), []
    step = _SEGMENTS_AT_ONCE * model.config.segment_length
    inputs, targets = document[:-1], document[1:]
    for start in range(0, len(inputs), step):
        logits = model(inputs[None, start : start + step], past_key_values=cache).logits[0].float()
        losses.append(nn.functional.cross_entropy(logits, targets[start : start + step], reduction="none"))
    return torch.cat(losses) if losses else torch.empty(0)


def _split_by_segment(losses: Tensor, length: int) -> Iterator[tuple[int, Tensor]]:
    """Yield each segment's number, from 1, with the losses of its tokens; the first has one fewer."""
    start, end, segment = 0, length - 1, 1
    while start < len(losses):
        yield segment, losses[start:end]
        start, end, segment = end, end + length, segment + 1


def _stretch(first: int, last: int, tokens: int, with_memory: float, without_memory: float) -> Stretch:
    return Stretch(
        first=first,
        last=last,
        tokens=tokens,
        with_memory=_perplexity(with_memory / tokens),
        without_memory=_perplexity(without_memory / tokens),
    )


def _perplexity(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
