"""torch.compile: the graphs that Dynamo and AOTAutograd make compute what the model computes, forwards and back.

Without Inductor's code generation, which takes minutes for a model of this size on a CPU: infini_llama/README.md says
what was measured with it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.infini_llama.conftest import MakeModel


@pytest.fixture(autouse=True)
def no_graphs_of_other_tests() -> None:
    torch.compiler.reset()


@pytest.mark.parametrize("memory_update", ["linear", "delta"])
def test_loss_and_gradients_are_those_of_eager_mode(
    make_model: MakeModel, tokens: Tensor, memory_update: str
) -> None:
    model = make_model(memory_update=memory_update, num_hidden_layers=1).train()

    def loss_and_gradients(run: Any) -> list[Tensor]:
        loss = run(input_ids=tokens, labels=tokens, use_cache=False).loss
        return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]

    eager = loss_and_gradients(model)
    compiled = loss_and_gradients(torch.compile(model, backend="aot_eager"))
    torch.testing.assert_close(compiled, eager, rtol=0, atol=1e-9)
