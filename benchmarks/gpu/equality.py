"""The equalities of the check: the device computes what the paper's equations say, and what a stock Llama does.

Each difference is a length divided by that of what it is compared with, which is computed in float64 on the CPU;
RMSNorm rounds to float32 even there. What a stock Llama loses by rounding stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.boxed import Row
from benchmarks.gpu.sizes import fused_implementations, llama, ours
from infini_llama import InfiniCache
from tests.infini_llama.model import reference

# Wide enough for flash attention, small enough for a loop over single queries.
_SHAPE = {
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    # Far from the default 0.02: what is compared should be the attention, not the residual stream around it.
    "initializer_range": 0.3,
}
_SEGMENT, _TOKENS = 16, 56
_ALLOWED, _TIMES_LLAMA = 1e-4, 2


def check_equality(device: torch.device) -> Iterator[Row]:
    """Yield a row for each comparison: `what`, `dtype`, `attention`, `difference`, and how much of it is `allowed`.

    In float32 a fixed difference is allowed; in bfloat16, twice what a stock Llama of this shape loses by rounding.
    """
    tokens = torch.randint(1, 61, (1, _TOKENS), generator=torch.Generator().manual_seed(0))
    lost: dict[tuple[str, torch.dtype, str], float] = {}
    for number, dtype, attention, row in _compare_llama(device, tokens[:, :_SEGMENT]):
        lost[number, dtype, attention] = row["difference"]
        yield row
    for update in ("linear", "delta"):
        exact = _model(update).double()
        logits = reference.logits(exact, tokens[0])
        slope = _slope(logits, exact, tokens)
        for dtype, attention in _combinations(device):
            model = _on_device(_model(update), attention, device, dtype)
            found = model(tokens.to(device), use_cache=False).logits[0]
            pieces, found_slope = _in_pieces(model, tokens, device), _slope(found, model, tokens)
            for number, what, ours_, theirs in (
                ("logits", "logits, literal loop", found, logits),
                ("logits", "logits in two pieces, literal loop", pieces, logits),
                ("gradient", "gradient, literal loop", found_slope, slope),
            ):
                is_wide = dtype == torch.float32
                allowed = _ALLOWED if is_wide else _TIMES_LLAMA * lost[number, dtype, attention]
                yield _row(f"{update}: {what}", ours_, theirs, dtype, attention, allowed)


def _compare_llama(device: torch.device, tokens: Tensor) -> Iterator[tuple[str, torch.dtype, str, Row]]:
    """Compare one segment with a stock Llama by the same attention, and that with itself in float64."""
    weights = {name: x for name, x in _model("linear").state_dict().items() if not name.endswith("gate.bias")}
    exact: Any = llama(_SHAPE, "eager").double().eval()
    exact.load_state_dict(weights)
    logits = exact(tokens).logits[0]
    slope = _slope(logits, exact, tokens)
    for dtype, attention in _combinations(device):
        model = _on_device(_model("linear"), attention, device, dtype)
        stock: Any = llama(_SHAPE, attention)
        stock.to(device, dtype).eval()
        stock.load_state_dict(weights)
        theirs, found = (m(tokens.to(device), use_cache=False).logits[0] for m in (stock, model))
        row = _row("one segment: logits, stock Llama", found, theirs, dtype, attention, _ALLOWED)
        yield "one segment", dtype, attention, row
        row = _row("stock Llama: logits, itself in float64", theirs, logits, dtype, attention)
        yield "logits", dtype, attention, row
        row = _row(
            "stock Llama: gradient, itself in float64", _slope(theirs, stock, tokens), slope, dtype, attention
        )
        yield "gradient", dtype, attention, row


def _combinations(device: torch.device) -> Iterator[tuple[torch.dtype, str]]:
    for dtype in (torch.float32, torch.bfloat16):
        for attention in ("eager", *fused_implementations(device)):
            # Flash attention has no float32.
            if not (attention.startswith("flash") and dtype == torch.float32):
                yield dtype, attention


def _model(update: Any) -> Any:
    """Return the model with this rule, the same weights each time."""
    torch.manual_seed(0)
    model = ours(_SHAPE, "eager", _SEGMENT, update)
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.gate.bias, std=2.0)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _on_device(model: Any, attention: str, device: torch.device, dtype: torch.dtype) -> Any:
    model.set_attn_implementation(attention)
    return model.to(device, dtype)


def _slope(logits: Tensor, model: Any, tokens: Tensor) -> Tensor:
    """Return the gradient of the loss by the embeddings, through all layers and the memory of all segments."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    loss = functional.cross_entropy(logits[:-1].to(wide), tokens[0, 1:].to(logits.device))
    (slope,) = torch.autograd.grad(loss, [model.model.embed_tokens.weight], retain_graph=True)
    return slope


@torch.no_grad()
def _in_pieces(model: Any, tokens: Tensor, device: torch.device) -> Tensor:
    """Return the logits of two calls, the state passed from one to the other."""
    cache = InfiniCache(model.config.num_hidden_layers)
    # The second begins with a segment: flash attention takes no mask.
    pieces = tokens.to(device).split(2 * _SEGMENT, dim=1)
    return torch.cat([model(piece, past_key_values=cache).logits[0] for piece in pieces])


def _row(
    what: str, found: Tensor, expected: Tensor, dtype: torch.dtype, attention: str, allowed: float | None = None
) -> Row:
    exact = expected.detach().double().cpu()
    difference = float((found.detach().double().cpu() - exact).norm() / exact.norm())
    row = {
        "what": what,
        "dtype": str(dtype).removeprefix("torch."),
        "attention": attention,
        "difference": difference,
    }
    # What is not a number is not allowed either.
    return row if allowed is None else {**row, "allowed": allowed, "holds": difference <= allowed}
