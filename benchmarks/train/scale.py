"""Memory and messages of one rank of many, counted without them, and what follows for 8 and 512 GPUs.

    python -m benchmarks.train.scale [--write]

A step of FSDP2 runs with the trainer's own code on fake tensors (`benchmarks.train.ledger`), in a group of ranks that
is fake too. So bytes are counted; seconds are arithmetic, from data sheets and one assumption, and the text says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import distributed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore

from benchmarks.lib.marks import Marks
from benchmarks.train.ledger import Ledger
from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.parallel.initialize import empty_model, place_buffers
from infini_llama.parallel.sharding import shard
from infini_llama.train.flops import training_flops
from infini_llama.train.truncation import split_into_parts

README = Path(__file__).parents[2] / "infini_llama" / "README.md"
MARKS = Marks("bench-train-scale")
SEGMENT, ROW = 2048, 16384
# Of Llama 2; the tiny one is for a test.
SHAPES: dict[str, dict[str, Any]] = {
    "7 B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "70 B": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
    "tiny": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4},
}
CASES = (("7 B", 8, 1), ("7 B", 8, 4), ("7 B", 512, 1), ("70 B", 8, 1), ("70 B", 512, 1))
# Data sheet of an H100 SXM: bfloat16 without sparsity; NVLink each way; and a network of 400 Gbit/s for each GPU.
TFLOPS, NVLINK, NETWORK = 989, 450e9, 50e9
GPU_BYTES = 80e9
GPUS_PER_NODE = 8
# The share of the peak that a training reaches; an assumption, nothing here was measured.
REACHED = 0.4


@dataclass(frozen=True, kw_only=True)
class Count:
    """What one rank holds and exchanges in an optimizer step with one row.

    Attributes:
        parameters: Of the whole model.
        weights: Bytes of the rank's weights.
        at_rest: Bytes between steps: weights and moments.
        peak: Most bytes at once in a step, activations and gathered weights included.
        gathered: Bytes of gathered weights in a step.
        reduced: Bytes of gradients in a step before they are shared out.
        flops: Operations that the row's tokens need.
    """

    parameters: int
    weights: int
    at_rest: int
    peak: int
    gathered: int
    reduced: int
    flops: int


def count_step(shape: str, ranks: int, parts: int) -> Count:
    """Count a step in this process, which must have no process group, and has none afterwards.

    Args:
        shape: A key of `SHAPES`.
        ranks: How many share the model.
        parts: Parts of truncated back-propagation that the row is cut into.
    """
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    try:
        return _count_step(shape, parts)
    finally:
        distributed.destroy_process_group()


def _count_step(shape: str, parts: int) -> Count:
    config = InfiniLlamaConfig(
        **SHAPES[shape], vocab_size=32000, segment_length=SEGMENT, use_cache=False, tie_word_embeddings=False
    )
    model: Any = shard(empty_model(config), dtype=torch.bfloat16)
    ledger = Ledger()
    with FakeTensorMode(allow_non_fake_inputs=True), ledger:
        model.to_empty(device="cpu")
        place_buffers(model, torch.device("cpu"))
        weights = ledger.live
        model.train()
        model.activation_checkpointing_enable()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        # Makes the moments.
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        optimizer.zero_grad()
        ledger.recount()
        at_rest, ledger.peak = ledger.live, 0
        ledger.exchanged.clear()
        tokens = torch.ones(1, ROW, dtype=torch.long)
        for part in split_into_parts(
            {"input_ids": tokens, "labels": tokens}, ROW // parts, config.num_hidden_layers
        ):
            if parts == 1:
                part.pop("past_key_values")
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(**part, num_items_in_batch=ROW).loss
            loss.backward()
        optimizer.step()
    return Count(
        parameters=sum(p.numel() for p in model.parameters()),
        weights=weights,
        at_rest=at_rest,
        peak=ledger.peak,
        gathered=ledger.exchanged["_allgather_base_"],
        reduced=ledger.exchanged["_reduce_scatter_base_"],
        flops=training_flops(config) * ROW,
    )


def count_apart(shape: str, ranks: int, parts: int) -> Count:
    """Count a step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.train.scale", "--only", shape, str(ranks), str(parts)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Count(**json.loads(done.stdout))


def markdown(counts: dict[tuple[str, int, int], Count]) -> str:
    """Return the table."""
    lines = [
        "| model | ranks | parts of a row | weights, at rest, at most (GB, counted) | gathered, reduced in a step (GB, "
        "counted) | fits in 80 GB | computing (s, arithmetic) | exchange (s, arithmetic) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (shape, ranks, parts), count in counts.items():
        # A fourth of the operations again, to recompute activations.
        computing = count.flops * 4 / 3 / (TFLOPS * 1e12 * REACHED)
        rate = NVLINK if ranks <= GPUS_PER_NODE else NETWORK
        exchange = (count.gathered + count.reduced) * (ranks - 1) / ranks / rate
        cells = [
            f"{shape} ({count.parameters / 1e9:.2f} billion)",
            str(ranks),
            str(parts),
            ", ".join(f"{x / 1e9:.1f}" for x in (count.weights, count.at_rest, count.peak)),
            ", ".join(f"{x / 1e9:.0f}" for x in (count.gathered, count.reduced)),
            "yes" if count.peak < GPU_BYTES else "no",
            f"{computing:.2f}",
            f"{exchange:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Count all cases, or one, and print or write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write the table into {README.name}")
    parser.add_argument("--only", nargs=3, metavar=("MODEL", "RANKS", "PARTS"), help="print one count, in JSON")
    options = parser.parse_args()
    if options.only:
        shape, ranks, parts = options.only
        click.echo(json.dumps(asdict(count_step(shape, int(ranks), int(parts)))))
        return
    table = markdown({case: count_apart(*case) for case in CASES})
    if options.write:
        MARKS.write(README, table)
    else:
        click.echo(table)


if __name__ == "__main__":
    main()
