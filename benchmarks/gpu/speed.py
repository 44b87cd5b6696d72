"""The speeds of the check: a training step, compiled and not, and decoding, beside a stock Llama of the same shape.

Weights are in float32 under bfloat16 autocast, as the trainer has them, and activations are recomputed; both models
have their loss in groups of tokens (`infini_llama.model.head_loss`), since a Llama's own would take more memory for the
logits of a long row than for all the rest. For decoding the weights are in bfloat16.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.boxed import Row
from benchmarks.gpu.sizes import Sizes, llama, ours
from benchmarks.train.child import tensors
from benchmarks.train.operations import count_operations
from infini_llama.model.head_loss import causal_lm_loss
from infini_llama.train.truncation import split_into_parts

_READ_AT_ONCE = 8192


def describe(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Yield one row: what the device is called, its memory, and how fast it multiplies matrices in bfloat16."""
    left, right = (torch.randn(sizes.gemm, sizes.gemm, dtype=torch.bfloat16, device=device) for _ in range(2))
    seconds = _time(device, lambda: left @ right, 10)
    row: Row = {"gemm_tflops": 2 * sizes.gemm**3 / seconds / 1e12}
    if device.type == "cuda":
        known = torch.cuda.get_device_properties(device)
        row |= {"device": known.name, "memory_gib": known.total_memory / 2**30, "cuda": torch.version.cuda}
    yield row


def train(device: torch.device, sizes: Sizes, variant: str, attention: str) -> Iterator[Row]:
    """Yield a row for each length: tokens and operations a second of a training step, and its peak of memory.

    Args:
        device: Where.
        sizes: Shape, lengths and number of steps.
        variant: `"llama"`, `"linear"` or `"delta"`.
        attention: Its implementation.
    """
    model = _build(sizes, variant, attention).to(device)
    model.train()
    model.config.use_cache = False
    # The second is its name in older versions of transformers, which the card's machine may have.
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    next(getattr(model, name) for name in names if hasattr(model, name))()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    for length in sizes.trained:
        _forget_peak(device)
        row = torch.randint(sizes.vocabulary, (1, length), device=device)

        def step(row: Tensor = row) -> None:
            _backward(model, row, sizes)
            optimizer.step()
            optimizer.zero_grad()

        seconds = _time(device, step, sizes.steps)
        yield {
            "variant": variant,
            "attention": attention,
            "tokens": length,
            "tokens_per_second": length / seconds,
            "tflops": count_operations(model, length) * length / seconds / 1e12,
            "peak_gib": _peak(device),
        }


def compile_and_train(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Yield one row: how far the compiled loss is from that of eager mode, and by how much steps become faster."""
    model = _build(sizes, "linear", "sdpa").to(device).train()
    row = torch.randint(sizes.vocabulary, (1, sizes.compiled), device=device)
    losses, seconds, begun = [], [], 0.0
    for run in (model, torch.compile(model, backend=sizes.backend)):
        begun = time.perf_counter()
        with _autocast(device):
            losses.append(float(run(input_ids=row, labels=row, use_cache=False).loss.detach()))
        first = time.perf_counter() - begun

        def step(run: Any = run) -> None:
            with _autocast(device):
                loss = run(input_ids=row, labels=row, use_cache=False).loss
            loss.backward()
            model.zero_grad()

        seconds.append(_time(device, step, sizes.steps))
    yield {
        "tokens": sizes.compiled,
        "eager_over_compiled": seconds[0] / seconds[1],
        "first_call_seconds": first,
        "loss_difference": abs(losses[1] - losses[0]) / abs(losses[0]),
    }


@torch.no_grad()
def decode(device: torch.device, sizes: Sizes, variant: str) -> Iterator[Row]:
    """Yield a row for each context: tokens read a second, milliseconds per token decoded, and the state's size."""
    model = _build(sizes, variant, "sdpa").to(device, torch.bfloat16).eval()
    for length in sizes.contexts:
        _forget_peak(device)
        context = torch.randint(sizes.vocabulary, (1, length), device=device)
        cache: Any = None
        begun = _now(device)
        for piece in context.split(min(_READ_AT_ONCE, 4 * sizes.segment), dim=1):
            cache = model(input_ids=piece, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values
        read = _now(device) - begun
        decode_one = partial(model, context[:, -1:], past_key_values=cache)
        seconds = _time(device, decode_one, sizes.decoded)
        yield {
            "variant": variant,
            "tokens": length,
            "read_per_second": length / read,
            "ms_per_token": seconds * 1e3,
            "state_mib": sum(x.numel() * x.element_size() for x in tensors(cache)) / 2**20,
            "peak_gib": _peak(device),
        }


def _build(sizes: Sizes, variant: Any, attention: str) -> Any:
    torch.manual_seed(0)
    if variant == "llama":
        return llama(sizes.shape, attention)
    return ours(sizes.shape, attention, sizes.segment, variant)


def _backward(model: Any, row: Tensor, sizes: Sizes) -> None:
    """Run a row forward and backward; ours in the trainer's parts where the row is long."""
    if model.config.model_type == "llama" or row.shape[1] <= sizes.in_parts:
        with _autocast(row.device):
            hidden = model.model(input_ids=row, use_cache=False).last_hidden_state
            loss = causal_lm_loss(hidden, model.lm_head, row)
        loss.backward()
        return
    inputs = {"input_ids": row, "labels": row}
    for part in split_into_parts(inputs, sizes.in_parts, model.config.num_hidden_layers):
        with _autocast(row.device):
            loss = model(**part, num_items_in_batch=row.shape[1] - 1).loss
        loss.backward()


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16)


def _time(device: torch.device, run: Callable[[], object], times: int) -> float:
    """Return the seconds of a call, after one that is not counted."""
    run()
    begun = _now(device)
    for _ in range(times):
        run()
    return (_now(device) - begun) / times


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> float | None:
    """Return the peak of the device's memory in GiB; None on a CPU, which counts none."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
