"""Put every parameter into exactly one group for the optimizer: decay, no decay, or gates.

* decay: matrices;
* no decay: norms, biases and, unless told otherwise, embeddings;
* gates: a separate learning rate, and no decay. Decay would pull a logit to 0, which is a half-open gate, and at the
  learning rate of the matrices gates hardly change during a training.

A weight decay of None is refused here: torch would accept it and fail in the first step. `Settings.weight_decay` turns
null into a number.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from infini_llama.model.gate import MemoryGate


def parameter_groups(
    model: nn.Module,
    *,
    learning_rate: float,
    gate_learning_rate: float,
    weight_decay: float,
    decay_embeddings: bool,
) -> list[dict[str, Any]]:
    """Return torch parameter groups named `decay`, `no_decay` and `gates`; empty groups are left out.

    Args:
        model: The model; parameters that do not require a gradient are in no group.
        learning_rate: Learning rate of `decay` and `no_decay`.
        gate_learning_rate: Learning rate of `gates`.
        weight_decay: Weight decay of `decay`.
        decay_embeddings: Whether embeddings are in `decay`.

    Raises:
        TypeError: `weight_decay` is None.
        AssertionError: A parameter is in no group or in two.
    """
    if weight_decay is None:
        raise TypeError("expected weight_decay as a number, found None; write 0.0 for no decay")
    kinds: dict[int, str] = {}
    # Embeddings first: a matrix that is shared with the output layer counts as an embedding.
    for module in sorted(model.modules(), key=lambda m: not isinstance(m, nn.Embedding)):
        for name, p in module.named_parameters(recurse=False):
            kinds.setdefault(id(p), _kind(module, name, decay_embeddings))
    groups: dict[str, dict[str, Any]] = {
        "decay": {"lr": learning_rate, "weight_decay": weight_decay},
        "no_decay": {"lr": learning_rate, "weight_decay": 0.0},
        "gates": {"lr": gate_learning_rate, "weight_decay": 0.0},
    }
    # `named_parameters` yields a shared matrix once, under the name of its first module.
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for group_name, group in groups.items():
        names = [name for name, p in trained.items() if kinds[id(p)] == group_name]
        group.update(name=group_name, params=[trained[name] for name in names])
    grouped = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in trained.values()), "a parameter is in no group or in two"
    return [group for group in groups.values() if group["params"]]


def _kind(module: nn.Module, name: str, decay_embeddings: bool) -> str:
    if isinstance(module, MemoryGate):
        return "gates"
    if isinstance(module, nn.Embedding):
        return "decay" if decay_embeddings else "no_decay"
    return "decay" if isinstance(module, nn.Linear) and name == "weight" else "no_decay"
