"""The paper's equations, one head, one segment and one query at a time: what the vectorised model must equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb


def attention(
    module: Any,
    rotary: Any,
    hidden: Tensor,
    segment_length: int,
    update: str,
    begins_at: int = 0,
    times: Sequence[float] = (),
) -> Tensor:
    """Return the output of one attention module for one document, `(T, hidden_size)` to `(T, hidden_size)`.

    Args:
        module: The attention.
        rotary: Makes the angles of RoPE.
        hidden: The input.
        segment_length: Tokens of a segment.
        update: The rule of the memory.
        begins_at: Place in its first segment at which the document begins.
        times: How often each segment is written; once if there are none.
    """
    width = module.head_dim
    heads = module.config.num_attention_heads
    shared = heads // module.config.num_key_value_heads
    q, k, v = (project(hidden) for project in (module.q_proj, module.k_proj, module.v_proj))
    outputs = []
    for head in range(heads):
        mine = slice(head * width, (head + 1) * width)
        theirs = slice(head // shared * width, (head // shared + 1) * width)
        outputs.append(
            one_head(
                q[:, mine],
                k[:, theirs],
                v[:, theirs],
                module.gate.bias[head],
                rotary,
                segment_length,
                update,
                begins_at,
                times,
            )
        )
    result: Tensor = module.o_proj(torch.cat(outputs, dim=1))
    return result


def one_head(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    rotary: Any,
    segment_length: int,
    update: str,
    begins_at: int,
    times: Sequence[float],
) -> Tensor:
    """Return A for one head, `(T, width)` each."""
    width = q.shape[1]
    matrix, normaliser = q.new_zeros(width, width), q.new_zeros(width)
    outputs = []
    for number, cut in enumerate(range(-begins_at, len(q), segment_length)):
        start, end = max(cut, 0), cut + segment_length
        q_s, k_s, v_s = (x[start:end] for x in (q, k, v))
        cos, sin = rotary(q_s, torch.arange(start, start + len(q_s))[None] - cut)
        q_rot, k_rot = (x[0, 0] for x in apply_rotary_pos_emb(q_s[None, None], k_s[None, None], cos, sin))
        for i in range(len(q_s)):
            local = torch.softmax(k_rot[: i + 1] @ q_rot[i] / width**0.5, dim=0) @ v_s[: i + 1]
            if start == 0:
                outputs.append(local)
                continue
            sigma_q = torch.nn.functional.elu(q_s[i]) + 1
            recalled = (sigma_q @ matrix) / (sigma_q @ normaliser)
            share = torch.sigmoid(gate)
            outputs.append(share * recalled + (1 - share) * local)
        sigma_k = torch.nn.functional.elu(k_s) + 1
        if update == "delta" and start > 0:
            v_s = v_s - (sigma_k @ matrix) / (sigma_k @ normaliser)[:, None]
        often = times[number] if times else 1.0
        matrix = matrix + often * (sigma_k.T @ v_s)
        normaliser = normaliser + often * sigma_k.sum(0)
    return torch.stack(outputs)


def logits(model: Any, row: Tensor, begins_at: int = 0, times: Sequence[float] = ()) -> Tensor:
    """Return the logits of one document, `(T,)` to `(T, vocab_size)`; `begins_at` and `times` as for `attention`."""
    hidden = model.model.embed_tokens(row)
    for layer in model.model.layers:
        hidden = hidden + attention(
            layer.self_attn,
            model.model.rotary_emb,
            layer.input_layernorm(hidden),
            model.config.segment_length,
            model.config.memory_update,
            begins_at,
            times,
        )
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    result: Tensor = model.lm_head(model.model.norm(hidden))
    return result
