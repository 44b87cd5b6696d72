"""Draw the first weights of a model, block by block.

Rule book:

* a model is laid out on the meta device, which takes no memory, and its weights are drawn one block at a time: so a
  rank that keeps a share of a model never holds more of it than that, and a block;
* the numbers depend on the random state alone: every rank draws the same, in one process or many, and keeps what it
  holds;
* each number is drawn once. A constructor would draw them all and `post_init` again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.model.modeling import InfiniLlamaForCausalLM


def initialize(config: InfiniLlamaConfig) -> InfiniLlamaForCausalLM:
    """Return a new model in RAM."""
    model = empty_model(config)
    # `strict` would ask for the output matrix too where that is the embeddings.
    model.load_state_dict(dict(draw_weights(config)), strict=False, assign=True)
    model.tie_weights()
    place_buffers(model, torch.device("cpu"))
    return model


def empty_model(config: InfiniLlamaConfig) -> InfiniLlamaForCausalLM:
    """Return a model on the meta device: shapes without storage."""
    with torch.device("meta"):
        return InfiniLlamaForCausalLM(config)


def place_buffers(model: InfiniLlamaForCausalLM, device: torch.device) -> None:
    """Compute what a model holds besides its parameters, the frequencies of RoPE, on a device."""
    model.model.rotary_emb = LlamaRotaryEmbedding(config=model.config).to(device)


def draw_weights(config: InfiniLlamaConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield each parameter's name and first value, in float32 in RAM; a shared one once.

    The values of a block are not used here any more when the next is drawn.
    """
    model = empty_model(config)
    names = {id(module): name for name, module in model.named_modules()}
    blocks: list[nn.Module] = [model.model.embed_tokens, *model.model.layers, model.model.norm]
    if not config.tie_word_embeddings:
        blocks.append(model.lm_head)
    for block in blocks:
        block.to_empty(device="cpu")
        _initialize_block(model, block)
        for name, p in block.named_parameters(prefix=names[id(block)]):
            yield name, p.detach()
        block.to("meta")


def _initialize_block(model: Any, module: nn.Module) -> None:
    """Initialise a module's children, then the module, in the order of transformers."""
    for child in module.children():
        _initialize_block(model, child)
    model._init_weights(module)
