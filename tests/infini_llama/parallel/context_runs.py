"""Compute rows on several ranks and on one, and print how far apart losses and gradients are, in JSON.

It is a program of its own since it forks: a fork of a test runner with threads may hang.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from infini_llama import InfiniLlamaConfig, InfiniLlamaForCausalLM
from infini_llama.parallel.context import ContextGroup, find_context, read_share, take_share
from tests.infini_llama.ranks import in_ranks

SEGMENT, SEGMENTS, ROWS = 4, 8, 3


def make_model(rule: str) -> InfiniLlamaForCausalLM:
    torch.manual_seed(0)
    config = InfiniLlamaConfig(
        vocab_size=31,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        segment_length=SEGMENT,
        memory_update=rule,
        initializer_range=0.3,
        use_cache=False,
    )
    model = InfiniLlamaForCausalLM(config).double().train()
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.gate.bias)
    return model


def make_rows(kind: str) -> dict[str, Tensor]:
    """Return rows of one document, of several that begin with segments and leave slots empty, or that share them."""
    length = SEGMENT * SEGMENTS
    tokens = torch.randint(1, 31, (ROWS, length), generator=torch.Generator().manual_seed(1))
    documents = torch.ones_like(tokens)
    if kind == "packed":
        # Of 10 tokens, of 1, of 14 and 4 segments of nothing; of 21 and 2; of one and as much as there is room for.
        lengths = ((10, 1, 14), (21, 2), (1, 28))
        documents.zero_()
        for row, of_row in enumerate(lengths):
            place = 0
            for number, count in enumerate(of_row, 1):
                documents[row, place : place + count] = number
                place += -(-count // SEGMENT) * SEGMENT
    if kind == "shared":
        starts = torch.zeros_like(tokens)
        for row, places in enumerate(((5, 6, 17), (3,), (16, 24, 25))):
            starts[row, list(places)] = 1
        documents = starts.cumsum(1) + 1
    labels = tokens.masked_fill(documents == 0, -100)
    labels[:, 1:][documents[:, 1:] != documents[:, :-1]] = -100
    labels[:, 0] = -100
    return {
        "input_ids": tokens,
        "attention_mask": (documents > 0).long(),
        "document_ids": documents,
        "labels": labels,
    }


def compute(rule: str, batch: dict[str, Any], count: Tensor, *, recompute: bool) -> tuple[float, Tensor]:
    """Return the loss, a share of the mean over whole rows, and all gradients."""
    model = make_model(rule)
    if recompute:
        model.activation_checkpointing_enable()
    loss = model(**batch, num_items_in_batch=count).loss
    loss.backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _forget(ranks: ContextGroup) -> float:
    """Return how far the loss of one document is off if nothing reaches the second rank."""
    rows = make_rows("one")
    share = take_share(rows, ranks, SEGMENT, share_segments=False)
    count = (rows["labels"] != -100).sum()
    with_memory, _ = compute("linear", read_share(share, ranks), count, recompute=False)
    for name in ("share_reaching", "share_present"):
        share[name] = torch.zeros_like(share[name])
    without, _ = compute("linear", read_share(share, ranks), count, recompute=False)
    return abs(with_memory - without)


def main(folder: Path) -> None:
    """Compare ranks with one process for each rule and kind of rows."""
    shown = {}
    cases = list(product(("linear", "delta"), ("one", "packed", "shared")))
    alone = {}
    for rule, kind in cases:
        rows = make_rows(kind)
        whole = {**rows, "share_segments": kind == "shared"}
        alone[rule, kind] = compute(rule, whole, (rows["labels"] != -100).sum(), recompute=False)
    for size in (2, 4):

        def work(rank: int, size: int = size) -> dict[str, Any]:
            ranks = find_context(size, size)
            assert ranks is not None
            found = {"forgotten": _forget(ranks)} if size == 2 else {}
            for rule, kind in cases:
                rows = make_rows(kind)
                share = take_share(rows, ranks, SEGMENT, share_segments=kind == "shared")
                batch = {**read_share(share, ranks), "share_segments": kind == "shared"}
                count = (rows["labels"] != -100).sum()
                loss, gradients = compute(rule, batch, count, recompute=size == 4)
                total = torch.tensor(loss, dtype=torch.float64)
                distributed.all_reduce(total)
                distributed.all_reduce(gradients)
                expected, expected_gradients = alone[rule, kind]
                found[f"{size} {rule} {kind}"] = (
                    abs(float(total) - expected),
                    float((gradients - expected_gradients).abs().max()),
                )
            return found

        shown.update(in_ranks(size, work, folder)[size - 1])
    print(json.dumps(shown))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
