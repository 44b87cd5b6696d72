"""The gate as a module, and the checkpoints of 0.1.0, before it was one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from infini_llama import InfiniLlamaForCausalLM
from infini_llama.model.gate import MemoryGate
from infini_llama.parallel.sharding import load_weights
from tests.infini_llama.conftest import MakeModel, aligned


def test_each_head_mixes_by_its_own_share_and_an_empty_memory_has_none() -> None:
    gate = MemoryGate(2, 0.0)
    with torch.no_grad():
        gate.bias.copy_(torch.tensor([0.0, 1.0]))
    attended, recalled = torch.full((1, 2, 1, 2, 1), 4.0), torch.full((1, 2, 1, 2, 1), 8.0)
    mixed = gate(attended, recalled, torch.tensor([[False, True]]))
    assert mixed.flatten(2).tolist()[0][0] == [4.0, 4.0]
    torch.testing.assert_close(
        mixed[0, 1, 0, :, 0], torch.tensor([6.0, 4 + 4 * torch.sigmoid(torch.tensor(1.0)).item()])
    )


def test_the_mixture_has_the_dtype_of_the_local_attention() -> None:
    attended, recalled = torch.ones(1, 1, 1, 2, 1, dtype=torch.bfloat16), torch.ones(1, 1, 1, 2, 1)
    assert MemoryGate(2, 0.0)(attended, recalled, torch.tensor([[True]])).dtype == torch.bfloat16


@pytest.fixture
def early(make_model: MakeModel, tmp_path: Path) -> Path:
    """Return a checkpoint as version 0.1.0 wrote it, with the gates as parameters of the attention."""
    make_model().save_pretrained(tmp_path / "early")
    file = tmp_path / "early" / "model.safetensors"
    weights = {name.replace(".gate.bias", ".gate"): x for name, x in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    return tmp_path / "early"


def test_a_checkpoint_of_0_1_0_loads_whole(make_model: MakeModel, early: Path, tokens: torch.Tensor) -> None:
    expected = make_model()(tokens).logits
    model, report = InfiniLlamaForCausalLM.from_pretrained(early, dtype=torch.float64, output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(aligned(model)(tokens).logits, expected)
    model = AutoModelForCausalLM.from_pretrained(early, dtype=torch.float64)
    assert torch.equal(aligned(model)(tokens).logits, expected)


def test_a_checkpoint_of_0_1_0_loads_as_a_state_dict_as_a_resumed_run_does(
    make_model: MakeModel, early: Path, tokens: torch.Tensor
) -> None:
    expected = make_model()(tokens).logits
    model = make_model(gate_init=3.0)
    model.load_state_dict(load_file(early / "model.safetensors"))
    assert torch.equal(model(tokens).logits, expected)
    model = make_model(gate_init=3.0)
    load_weights(model, early)
    assert torch.equal(model(tokens).logits, expected)


def test_a_checkpoint_of_0_1_0_that_is_saved_again_loads_again(
    make_model: MakeModel, early: Path, tokens: torch.Tensor, tmp_path: Path
) -> None:
    InfiniLlamaForCausalLM.from_pretrained(early, dtype=torch.float64).save_pretrained(tmp_path / "again")
    again = InfiniLlamaForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float64)
    assert torch.equal(aligned(again)(tokens).logits, make_model()(tokens).logits)
