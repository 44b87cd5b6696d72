"""Rows in parts: the same numbers as in one pass, and a gradient that ends where it is told to."""

from __future__ import annotations

import pytest
import torch

from infini_llama import InfiniLlamaForCausalLM
from infini_llama.data import IGNORED
from infini_llama.train.truncation import split_into_parts
from tests.infini_llama.conftest import MakeModel

EXACT = {"rtol": 0, "atol": 1e-9}


def batch(tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    documents = (torch.arange(29) >= 19).long().expand(2, -1)
    labels = tokens.masked_fill(torch.arange(29) == 19, IGNORED)
    return {"input_ids": tokens, "document_ids": documents, "labels": labels}


def losses(model: InfiniLlamaForCausalLM, tokens: torch.Tensor, length: int) -> list[torch.Tensor]:
    """Return the losses of the parts, each a share of the mean over the whole batch."""
    inputs = batch(tokens)
    count = (inputs["labels"][:, 1:] != IGNORED).sum()
    return [
        model(**part, num_items_in_batch=count).loss.double()
        for part in split_into_parts(inputs, length, model.config.num_hidden_layers)
    ]


@pytest.mark.parametrize("length", [3, 8, 16, 29])
def test_losses_of_the_parts_add_up_to_the_rows(make_model: MakeModel, tokens: torch.Tensor, length: int) -> None:
    model = make_model()
    whole = model(**batch(tokens)).loss.double()
    # The library computes losses in float32.
    torch.testing.assert_close(sum(losses(model, tokens, length)), whole, rtol=0, atol=1e-6)


def test_every_label_is_predicted_once(tokens: torch.Tensor) -> None:
    inputs = batch(tokens)
    shifted = torch.cat([part["shift_labels"] for part in split_into_parts(inputs, 8, 1)], dim=1)
    assert shifted[:, :-1].tolist() == inputs["labels"][:, 1:].tolist()
    assert (shifted[:, -1] == IGNORED).all()


def test_the_gradient_ends_where_its_part_begins(make_model: MakeModel, tokens: torch.Tensor) -> None:
    model = make_model()
    embeddings = model.model.embed_tokens(tokens).detach().requires_grad_()
    inputs = {"inputs_embeds": embeddings, "labels": tokens}
    reached = []
    for part in split_into_parts(inputs, 8, model.config.num_hidden_layers):
        (gradient,) = torch.autograd.grad(model(**part).loss, embeddings)
        reached.append([bool(piece.any()) for piece in gradient.split(8, dim=1)])
    assert reached == [[i == j for j in range(4)] for i in range(4)]


def test_gradient_checkpointing_changes_no_gradient_of_any_part(
    make_model: MakeModel, tokens: torch.Tensor
) -> None:
    def gradients(model: InfiniLlamaForCausalLM) -> list[torch.Tensor]:
        model.train()
        weight = model.model.layers[0].self_attn.k_proj.weight
        inputs = batch(tokens)
        return [torch.autograd.grad(model(**part).loss, weight)[0] for part in split_into_parts(inputs, 16, 2)]

    plain = gradients(make_model())
    model = make_model()
    model.activation_checkpointing_enable()
    torch.testing.assert_close(gradients(model), plain, **EXACT)
