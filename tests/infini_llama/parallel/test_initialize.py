"""A model that is drawn block by block beside one that transformers initialises whole."""

from __future__ import annotations

import pytest
import torch

from infini_llama import InfiniLlamaConfig, InfiniLlamaForCausalLM
from infini_llama.parallel.initialize import draw_weights, empty_model, initialize


def configured(*, tied: bool) -> InfiniLlamaConfig:
    return InfiniLlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        segment_length=8,
        gate_init=-1.5,
        tie_word_embeddings=tied,
        pad_token_id=3,
    )


@pytest.mark.parametrize("tied", [True, False])
def test_the_numbers_are_those_of_transformers_initialisation(tied: bool) -> None:
    config = configured(tied=tied)
    theirs = empty_model(config).to_empty(device="cpu")
    torch.manual_seed(0)
    theirs.initialize_weights()
    theirs.tie_weights()
    torch.manual_seed(0)
    ours = initialize(config)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    if not tied:  # else transformers draws the output matrix over the embeddings
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    assert (ours.lm_head.weight is ours.model.embed_tokens.weight) == tied


def test_nothing_is_left_out_or_drawn_twice() -> None:
    config = configured(tied=True)
    names = [name for name, _ in draw_weights(config)]
    assert names == [name for name, _ in InfiniLlamaForCausalLM(config).named_parameters()]


def test_a_new_model_computes_what_it_computes_when_saved_and_loaded(tmp_path: object) -> None:
    torch.manual_seed(0)
    model = initialize(configured(tied=True)).eval()
    tokens = torch.randint(1, 61, (2, 29))
    model.save_pretrained(tmp_path)
    loaded = InfiniLlamaForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
