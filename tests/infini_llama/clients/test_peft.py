"""peft trains what it is told to: LoRA beside frozen matrices, and the gates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model

from infini_llama import InfiniLlamaForCausalLM
from infini_llama.model.gate import MemoryGate
from infini_llama.train.optimizer import parameter_groups
from tests.infini_llama.conftest import MakeModel

README = Path(__file__).parents[3] / "infini_llama" / "README.md"


def adapted(model: InfiniLlamaForCausalLM) -> Any:
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], modules_to_save=["gate"], r=4)
    return get_peft_model(model, config)


def trained(model: Any, tokens: torch.Tensor, steps: int = 3) -> list[float]:
    groups = parameter_groups(
        model, learning_rate=1e-2, gate_learning_rate=1e-1, weight_decay=0.0, decay_embeddings=False
    )
    optimizer = torch.optim.AdamW(groups)
    losses = []
    for _ in range(steps):
        loss = model(tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_gates_and_lora_are_trained_and_nothing_else(make_model: MakeModel, tokens: torch.Tensor) -> None:
    model = adapted(make_model())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = trained(model, tokens)
    assert losses[-1] < losses[0]
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in moved if "lora_" not in name} == {
        f"base_model.model.model.layers.{layer}.self_attn.gate.modules_to_save.default.bias" for layer in range(2)
    }


def test_an_adapter_is_saved_with_its_gates_and_loads_on_its_base(
    make_model: MakeModel, tokens: torch.Tensor, tmp_path: Path
) -> None:
    make_model().save_pretrained(tmp_path / "base")
    model = adapted(InfiniLlamaForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float64))
    trained(model, tokens)
    model.save_pretrained(tmp_path / "adapter")
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter", dtype=torch.float64)
    torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits, rtol=0, atol=1e-6)
    merged = model.merge_and_unload()
    assert all(isinstance(layer.self_attn.gate, MemoryGate) for layer in merged.model.layers)
    torch.testing.assert_close(merged(tokens).logits, loaded(tokens).logits, rtol=0, atol=1e-6)


def test_the_recipe_of_the_readme_runs_as_it_stands(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: torch.Tensor
) -> None:
    (recipe,) = re.findall(r"```python\n(from peft.*?)```", README.read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    make_model().float().save_pretrained("start")
    rows = [{"input_ids": row.tolist(), "labels": row.tolist()} for row in tokens]
    exec(compile(recipe, str(README), "exec"), {"rows": rows})
    assert sorted(path.name for path in Path("adapter").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    start, merged = (InfiniLlamaForCausalLM.from_pretrained(name) for name in ("start", "merged"))
    moved = {name for name, p in merged.named_parameters() if not torch.equal(p, start.get_parameter(name))}
    assert {name.rpartition("layers.")[2][2:] for name in moved} == {
        *(f"self_attn.{kind}_proj.weight" for kind in "qkvo"),
        "self_attn.gate.bias",
    }
