from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from bundler.errors import IntegrityError
from infini_llama import InfiniLlamaForCausalLM
from infini_llama.errors import ConfigError
from infini_llama.model.convert import Conversion, convert

ORIGIN = {"repo": "org/llama", "commit": "c" * 40}


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def llama(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a folder with a tiny Llama whose RoPE is scaled and whose heads are grouped."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        rope_parameters={"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0},
    )
    LlamaForCausalLM(config).to(request.param).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def converted(llama: Path) -> Conversion:
    return convert(llama, llama.parent / "ours", segment_length=8, gate_init=1.5, origin=ORIGIN)


def test_the_first_segment_answers_as_the_llama_did(llama: Path) -> None:
    done = converted(llama)
    tokens = torch.randint(61, (1, 8), generator=torch.Generator().manual_seed(3))
    theirs = LlamaForCausalLM.from_pretrained(llama)(tokens).logits
    ours = AutoModelForCausalLM.from_pretrained(done.output_dir)(tokens).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_only_the_gates_are_new_and_every_weight_is_the_llamas_bit_for_bit(llama: Path) -> None:
    done = converted(llama)
    before, after = (load_file(folder / "model.safetensors") for folder in (llama, done.output_dir))
    gates = {name for name in after if name.endswith("self_attn.gate.bias")}
    assert set(after) - set(before) == gates
    assert (len(gates), done.gates) == (2, 8)
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items()
    )
    assert all((after[name] == 1.5).all() for name in gates)


def test_the_configuration_keeps_the_llamas_values_and_adds_ours(llama: Path) -> None:
    config = InfiniLlamaForCausalLM.from_pretrained(converted(llama).output_dir).config
    assert (config.model_type, config.segment_length, config.num_key_value_heads) == ("infini_llama", 8, 2)
    assert config.rope_parameters["factor"] == 2.0


def test_it_says_where_it_came_from(llama: Path) -> None:
    folder = converted(llama).output_dir
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["converted_from"] == ORIGIN
    assert sorted(provenance["files"]) == sorted(p.name for p in folder.iterdir() if p.name != "provenance.json")


def test_a_weight_that_is_missing_or_left_over_is_named_and_nothing_is_written(llama: Path) -> None:
    weights = load_file(llama / "model.safetensors")
    weights["model.layers.1.extra"] = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, llama / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntegrityError) as caught:
        converted(llama)
    assert "missing: model.layers.1.mlp.up_proj.weight" in caught.value.message
    assert "left over: model.layers.1.extra" in caught.value.message
    assert [path.name for path in llama.parent.iterdir()] == ["llama"]


def test_another_kind_of_model_is_refused(llama: Path) -> None:
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    with pytest.raises(ConfigError, match="expected a model of type 'llama', found 'mistral'"):
        converted(llama)


def test_a_folder_that_exists_is_left_alone(llama: Path) -> None:
    (llama.parent / "ours").mkdir()
    with pytest.raises(ConfigError, match="conversion writes a new folder"):
        converted(llama)
    assert list((llama.parent / "ours").iterdir()) == []
