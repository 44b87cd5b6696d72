from __future__ import annotations

from typing import Any

import pytest
import torch

from infini_llama import InfiniLlamaForCausalLM
from infini_llama.train.optimizer import parameter_groups
from tests.infini_llama.conftest import MakeModel

RATES: dict[str, Any] = {"learning_rate": 1e-3, "gate_learning_rate": 1e-2, "weight_decay": 0.1}


def names(model: InfiniLlamaForCausalLM, **options: Any) -> dict[str, list[str]]:
    """Return the names of the parameters in each group, layer numbers and prefixes cut off."""
    known = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, **RATES | {"decay_embeddings": False} | options)
    return {g["name"]: sorted({".".join(known[id(p)].split(".")[-2:]) for p in g["params"]}) for g in groups}


def test_gates_are_a_group_of_their_own_with_their_own_rate_and_no_decay(make_model: MakeModel) -> None:
    groups = {g["name"]: g for g in parameter_groups(make_model(), **RATES, decay_embeddings=False)}
    assert {name: (g["lr"], g["weight_decay"]) for name, g in groups.items()} == {
        "decay": (1e-3, 0.1),
        "no_decay": (1e-3, 0.0),
        "gates": (1e-2, 0.0),
    }
    assert names(make_model())["gates"] == ["gate.bias"]


def test_norms_biases_and_embeddings_are_not_decayed(make_model: MakeModel) -> None:
    assert names(make_model(attention_bias=True))["no_decay"] == [
        "embed_tokens.weight",
        "input_layernorm.weight",
        "k_proj.bias",
        "norm.weight",
        "o_proj.bias",
        "post_attention_layernorm.weight",
        "q_proj.bias",
        "v_proj.bias",
    ]


def test_tied_embeddings_count_as_embeddings(make_model: MakeModel) -> None:
    model = make_model(tie_word_embeddings=True)
    assert "embed_tokens.weight" in names(model)["no_decay"]
    assert "embed_tokens.weight" in names(model, decay_embeddings=True)["decay"]


def test_an_output_layer_of_its_own_is_decayed(make_model: MakeModel) -> None:
    assert "lm_head.weight" in names(make_model())["decay"]


def test_every_parameter_is_in_exactly_one_group(make_model: MakeModel) -> None:
    model = make_model(attention_bias=True, mlp_bias=True)
    grouped = [id(p) for g in parameter_groups(model, **RATES, decay_embeddings=False) for p in g["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_frozen_parameters_are_in_no_group(make_model: MakeModel) -> None:
    model = make_model()
    for layer in model.model.layers:
        layer.self_attn.gate.bias.requires_grad_(False)
    assert "gates" not in names(model)


def test_a_weight_decay_of_none_is_refused_before_torch_trips_over_it(make_model: MakeModel) -> None:
    with pytest.raises(TypeError, match="expected weight_decay as a number, found None"):
        parameter_groups(make_model(), **RATES | {"weight_decay": None}, decay_embeddings=False)


def test_a_step_with_no_decay_moves_an_idle_gate_nowhere(make_model: MakeModel) -> None:
    model = make_model()
    optimizer = torch.optim.AdamW(parameter_groups(model, **RATES, decay_embeddings=False))
    before = [layer.self_attn.gate.bias.detach().clone() for layer in model.model.layers]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert all(
        torch.equal(b, layer.self_attn.gate.bias) for b, layer in zip(before, model.model.layers, strict=True)
    )
