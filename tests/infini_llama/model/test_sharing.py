"""Documents that share segments, beside the literal loop over each of them alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from infini_llama import InfiniCache
from infini_llama.train.truncation import split_into_parts
from tests.infini_llama.conftest import MakeModel
from tests.infini_llama.model import reference

EXACT: dict[str, Any] = {"rtol": 0, "atol": 1e-9}
UPDATES = pytest.mark.parametrize("update", ["linear", "delta"])
# Segments of 8 tokens. Several documents in a segment, one of a single token, one of exactly the rest of a segment, one
# over several segments, and one that begins with a segment.
LENGTHS = [[3, 1, 9, 2, 1, 8, 8], [8, 5, 3, 13, 3], [32], [1, 1, 1, 1, 28]]


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens and document ids, four rows of 32."""
    tokens = torch.randint(1, 61, (4, 32), generator=torch.Generator().manual_seed(3))
    ids = [[number for number, length in enumerate(row) for _ in range(length)] for row in LENGTHS]
    return tokens, torch.tensor(ids)


def literal(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return the logits of each document by itself, one after the other."""
    found = []
    for row, lengths in zip(tokens, LENGTHS, strict=True):
        parts, start = [], 0
        for length in lengths:
            parts.append(reference.logits(model, row[start : start + length], begins_at=start % 8))
            start += length
        found.append(torch.cat(parts))
    return torch.stack(found)


@UPDATES
# The eager implementation rounds its weights to float32.
@pytest.mark.parametrize(("implementation", "within"), [("sdpa", 1e-9), ("eager", 1e-5)])
def test_each_document_is_computed_as_if_alone(
    make_model: MakeModel, update: str, implementation: str, within: float
) -> None:
    model = make_model(memory_update=update, attn_implementation=implementation)
    tokens, documents = rows()
    found = model(tokens, document_ids=documents, share_segments=True).logits
    torch.testing.assert_close(found, literal(model, tokens), rtol=0, atol=within)


@UPDATES
def test_gradients_equal_those_of_the_literal_loop(make_model: MakeModel, update: str) -> None:
    model = make_model(memory_update=update)
    tokens, documents = rows()
    model(tokens, document_ids=documents, share_segments=True).logits.square().sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    literal(model, tokens).square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None
        scale = float(p.grad.abs().max())
        torch.testing.assert_close(found[name] / scale, p.grad / scale, **EXACT)


@UPDATES
@pytest.mark.parametrize("part", [8, 16])
def test_parts_of_a_row_are_those_of_the_row(make_model: MakeModel, update: str, part: int) -> None:
    model = make_model(memory_update=update)
    tokens, documents = rows()
    inputs = {"input_ids": tokens, "document_ids": documents, "labels": tokens}
    whole = model(**inputs, share_segments=True, num_items_in_batch=4 * 31)
    parts = split_into_parts(inputs, part, model.config.num_hidden_layers)
    found = [
        model(**one | {"skip_logits": False}, share_segments=True, num_items_in_batch=4 * 31) for one in parts
    ]
    torch.testing.assert_close(torch.cat([one.logits for one in found], dim=1), whole.logits, **EXACT)
    # The loss is summed up in float32.
    assert sum(one.loss.item() for one in found) == pytest.approx(whole.loss.item(), rel=1e-6)


@UPDATES
def test_padding_at_the_end_changes_no_document(make_model: MakeModel, update: str) -> None:
    model = make_model(memory_update=update)
    tokens, documents = rows()
    mask = torch.ones_like(tokens)
    mask[0, -8:] = mask[3, -3:] = 0
    found = model(
        tokens.masked_fill(mask == 0, 0), attention_mask=mask, document_ids=documents, share_segments=True
    ).logits
    kept = mask.bool()
    torch.testing.assert_close(found[kept], literal(model, tokens)[kept], **EXACT)
    assert found.isfinite().all()


def test_one_document_a_row_is_what_it_is_without(make_model: MakeModel) -> None:
    model = make_model()
    tokens, _ = rows()
    shared = model(tokens, document_ids=torch.zeros_like(tokens), share_segments=True).logits
    torch.testing.assert_close(shared, model(tokens).logits, **EXACT)


def test_a_stream_goes_on_token_by_token_after_whole_segments(make_model: MakeModel) -> None:
    model = make_model()
    tokens, documents = rows()
    cache = InfiniCache(model.config.num_hidden_layers)
    model(tokens, document_ids=documents, share_segments=True, past_key_values=cache)
    more = torch.randint(1, 61, (4, 3), generator=torch.Generator().manual_seed(4))
    found = model(more, past_key_values=cache).logits
    last = [
        reference.logits(model, torch.cat((row[32 - lengths[-1] :], extra)), begins_at=(32 - lengths[-1]) % 8)[-3:]
        for row, lengths, extra in zip(tokens, LENGTHS, more, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(last), **EXACT)


def test_what_is_no_whole_segments_is_refused(make_model: MakeModel) -> None:
    model = make_model()
    tokens, documents = rows()
    with pytest.raises(ValueError, match=r"expected whole segments of 8 tokens .* found 0 tokens .* and 31 more"):
        model(tokens[:, :31], document_ids=documents[:, :31], share_segments=True)
    cache = InfiniCache(model.config.num_hidden_layers)
    model(tokens[:, :3], past_key_values=cache)
    with pytest.raises(ValueError, match="found 3 tokens of a running one"):
        model(tokens, document_ids=documents, share_segments=True, past_key_values=cache)
