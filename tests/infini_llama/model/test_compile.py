"""torch.compile: the graphs that Dynamo and AOTAutograd make compute what the model computes, forwards and back.

Without Inductor's code generation, which takes minutes for a model of this size on a CPU: infini_llama/README.md says
what was measured with it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from infini_llama.train.schedule import write_spread
from tests.infini_llama.conftest import MakeModel


@pytest.fixture(autouse=True)
def no_graphs_of_other_tests() -> None:
    torch.compiler.reset()


@pytest.mark.parametrize("memory_update", ["linear", "delta"])
@pytest.mark.parametrize("padded", [False, True], ids=["in-one-graph", "padded"])
def test_loss_and_gradients_are_those_of_eager_mode(
    make_model: MakeModel, tokens: Tensor, memory_update: str, padded: bool
) -> None:
    model = make_model(memory_update=memory_update, num_hidden_layers=1).train()
    mask = torch.ones_like(tokens)
    mask[0, :6] = 0
    options: dict[str, Any] = {"attention_mask": mask} if padded else {}

    def loss_and_gradients(run: Any) -> list[Tensor]:
        loss = run(input_ids=tokens, labels=tokens, use_cache=False, **options).loss
        return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]

    eager = loss_and_gradients(model)
    compiled = loss_and_gradients(torch.compile(model, backend="aot_eager", fullgraph=not padded))
    torch.testing.assert_close(compiled, eager, rtol=0, atol=1e-9)


def test_a_spread_that_grows_compiles_nothing_again(make_model: MakeModel, tokens: Tensor) -> None:
    model = make_model(memory_write_spread=4.0, num_hidden_layers=1).train()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    losses = []
    for step in range(1, 7):
        torch.manual_seed(0)
        spread = write_spread(4.0, 4, step)
        loss = compiled(input_ids=tokens, labels=tokens, use_cache=False, write_spread=spread).loss
        losses.append(loss.item())
    assert counter.frame_count == 1
    # Without random numbers of its own a step differs by its spread alone.
    assert len(set(losses[:4])) == 4 and len(set(losses[3:])) == 1


@pytest.mark.parametrize("memory_update", ["linear", "delta"])
def test_an_exported_program_computes_what_the_model_does(
    make_model: MakeModel, tokens: Tensor, memory_update: str
) -> None:
    model = make_model(memory_update=memory_update)
    program = torch.export.export(model, (tokens,), {"use_cache": False})
    other = tokens.flip(1)
    assert torch.equal(program.module()(other, use_cache=False).logits, model(other).logits)


@pytest.mark.parametrize("name", ["attention_mask", "document_ids", "position_ids"])
def test_what_decides_on_the_number_of_segments_is_not_exported(
    make_model: MakeModel, tokens: Tensor, name: str
) -> None:
    options = {"use_cache": False, name: torch.zeros_like(tokens)}
    with pytest.raises(ValueError, match=f"expected tokens alone, found {name}"):
        torch.export.export(make_model(), (tokens,), options, strict=False)
