"""Weights of a checkpoint, tensor by tensor; `test_distribution` has several processes do it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from infini_llama.errors import ConfigError
from infini_llama.parallel.sharding import load_weights
from tests.infini_llama.conftest import MakeModel


@pytest.mark.parametrize("most", ["5GB", "20KB"], ids=["one-file", "several-files"])
def test_weights_are_read_from_one_file_or_from_several(
    make_model: MakeModel, tokens: torch.Tensor, tmp_path: Path, most: str
) -> None:
    model = make_model()
    model.save_pretrained(tmp_path, max_shard_size=most)
    assert (tmp_path / "model.safetensors.index.json").is_file() == (most == "20KB")
    other = make_model(initializer_range=0.1, gate_init=2.0)
    load_weights(other, tmp_path)
    assert torch.equal(other(tokens).logits, model(tokens).logits)


def test_another_models_weights_are_refused_and_nothing_is_loaded(make_model: MakeModel, tmp_path: Path) -> None:
    make_model(intermediate_size=40).save_pretrained(tmp_path)
    model = make_model()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with pytest.raises(ConfigError, match=r"model\.layers\.0\.mlp\.down_proj\.weight, .* differ"):
        load_weights(model, tmp_path)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
