"""One job of `make bench-train`, in a process of its own, by path: prints a JSON list, a reading for each length.

    python child.py train VARIANT TOKENS
    python child.py decode VARIANT TOKENS...
    python child.py multiply matrices WIDTH

Nothing of this repository is imported but for the variants that are ours, so that a peer's environment needs none of
it. All variants have the same shape (see `SHAPE`), one sequence, float32 and one thread; a training step is forward,
backward and AdamW over the whole sequence.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

SHAPE = {"layers": 4, "width": 256, "heads": 4, "vocabulary": 4096, "segment": 512, "backprop_segments": 2}
# A GEGLU of lucidrains' has int(4 * width * 2 / 3) inside; the others get as many.
INSIDE = int(4 * SHAPE["width"] * 2 / 3)
# Decoding costs ours more at the end of a segment than at its start: a whole segment is timed. For a Llama, whose cost
# grows by one key per token, a few do.
DECODED = {"ours": SHAPE["segment"], "llama": 64}
_READ_AT_ONCE = 4096
_PRODUCTS = 200


def llama(infini: bool) -> Any:
    """Return a stock Llama, or ours of the same shape."""
    shape: dict[str, Any] = {
        "vocab_size": SHAPE["vocabulary"],
        "hidden_size": SHAPE["width"],
        "intermediate_size": INSIDE,
        "num_hidden_layers": SHAPE["layers"],
        "num_attention_heads": SHAPE["heads"],
        "max_position_embeddings": 1 << 20,
        "bos_token_id": None,
        "eos_token_id": None,
        "attn_implementation": "sdpa",
    }
    if infini:
        from infini_llama import InfiniLlamaConfig, InfiniLlamaForCausalLM

        return InfiniLlamaForCausalLM(InfiniLlamaConfig(**shape, segment_length=SHAPE["segment"]))
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**shape))


def compiled(model: Any) -> Any:
    """Return the model, compiled as `training.compile` does it."""
    model.compile()
    return model


def whole_row(model: Any, tokens: Tensor) -> None:
    """Forward and backward over the sequence at once."""
    # As each is trained: ours leaves out logits where nobody looks at them, a stock Llama knows no such thing.
    options = {"skip_logits": True} if model.config.model_type == "infini_llama" else {}
    model(input_ids=tokens, labels=tokens, use_cache=False, **options).loss.backward()


def in_parts(model: Any, tokens: Tensor) -> None:
    """Forward and backward as the trainer does it with `backprop_segments`."""
    from infini_llama.train.truncation import split_into_parts

    length = SHAPE["segment"] * SHAPE["backprop_segments"]
    count = torch.tensor(tokens.shape[1] - 1)
    for part in split_into_parts({"input_ids": tokens, "labels": tokens}, length, SHAPE["layers"]):
        model(**part, num_items_in_batch=count).loss.backward()


def lucidrains() -> Any:
    """Return lucidrains' InfiniTransformer in its wrapper, which cuts and detaches by itself."""
    from infini_transformer_pytorch import (  # type: ignore[import-not-found]
        InfiniTransformer,
        InfiniTransformerWrapper,
    )

    model = InfiniTransformer(
        num_tokens=SHAPE["vocabulary"],
        dim=SHAPE["width"],
        depth=SHAPE["layers"],
        heads=SHAPE["heads"],
        dim_head=SHAPE["width"] // SHAPE["heads"],
    )
    return InfiniTransformerWrapper(
        model, segment_length=SHAPE["segment"], detach_mems_every_num_segments=SHAPE["backprop_segments"]
    )


TRAINED: dict[str, tuple[Callable[[], Any], Callable[[Any, Tensor], Any]]] = {
    "llama": (lambda: llama(infini=False), whole_row),
    "lucidrains": (lucidrains, lambda model, tokens: model(tokens, backward=True)),
    "ours": (lambda: llama(infini=True), in_parts),
    "ours-whole-row": (lambda: llama(infini=True), whole_row),
    "ours-compiled": (lambda: compiled(llama(infini=True)), in_parts),
}


def train(variant: str, length: int) -> list[dict[str, float]]:
    """Return tokens per CPU second of a training step, the peak of resident memory, and how far the step raised it.

    Of ours also `gflops`, by how many 10^9 operations a second that is.
    """
    build, step = TRAINED[variant]
    model = build()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def once(tokens: int) -> None:
        step(model, torch.randint(SHAPE["vocabulary"], (1, tokens)))
        optimizer.step()
        optimizer.zero_grad()

    # The optimizer's state, the gradients and torch's own start-up are there before the measurement, and compiled code.
    once(length if variant == "ours-compiled" else 64)
    before = peak_mib()
    begun = time.process_time()
    once(length)
    speed, peak = length / (time.process_time() - begun), peak_mib()
    reading = {"tokens_per_cpu_second": speed, "growth_mib": peak - before, "peak_mib": peak}
    if variant.startswith("ours"):
        from benchmarks.train.operations import count_operations

        reading["gflops"] = speed * count_operations(model, length) / 1e9
    return [reading]


def multiply(_: str, width: int) -> list[dict[str, float]]:
    """Return `gflops`, how many 10^9 operations a CPU second products of square matrices make."""
    left, right, product = (torch.randn(width, width) for _ in range(3))
    torch.mm(left, right, out=product)
    begun = time.process_time()
    for _product in range(_PRODUCTS):
        torch.mm(left, right, out=product)
    return [{"gflops": _PRODUCTS * 2 * width**3 / (time.process_time() - begun) / 1e9}]


@torch.no_grad()
def decode(variant: str, *lengths: int) -> list[dict[str, float]]:
    """Return CPU milliseconds per token after so many tokens of context, and the size of the state by then.

    All contexts stay in memory and take turns, token by token, so that a slow moment of the machine is everyone's.
    """
    model = llama(infini=variant == "ours").eval()
    caches = [read(model, length) for length in lengths]
    spent = [0.0] * len(caches)
    for _ in range(DECODED[variant]):
        token = torch.randint(SHAPE["vocabulary"], (1, 1))
        for index, cache in enumerate(caches):
            begun = time.process_time()
            model(input_ids=token, past_key_values=cache, use_cache=True).logits.argmax(-1)
            spent[index] += time.process_time() - begun
    return [
        {
            "ms_per_token": seconds / DECODED[variant] * 1e3,
            "state_mib": sum(t.numel() * t.element_size() for t in tensors(cache)) / 2**20,
        }
        for seconds, cache in zip(spent, caches, strict=True)
    ]


def read(model: Any, length: int) -> Any:
    """Return the model's cache after a random context."""
    cache = None
    for piece in torch.randint(SHAPE["vocabulary"], (1, length)).split(_READ_AT_ONCE, dim=1):
        cache = model(input_ids=piece, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values
    return cache


def tensors(cache: Any) -> Iterator[Tensor]:
    """Yield what a cache holds of every layer."""
    for layer in cache.layers:
        if hasattr(layer, "state"):
            yield from (*layer.state.memory, layer.state.keys, layer.state.values)
        else:
            yield from (layer.keys, layer.values)


def peak_mib() -> float:
    """Return the peak of this process's resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    action, variant, *lengths = sys.argv[1:]
    actions: dict[str, Callable[..., list[dict[str, float]]]] = {
        "train": train,
        "decode": decode,
        "multiply": multiply,
    }
    sys.stdout.write(json.dumps(actions[action](variant, *map(int, lengths))) + "\n")
