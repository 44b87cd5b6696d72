"""A gated DeltaNet (Yang, Kautz, Hatamizadeh, arXiv 2412.06464) to measure beside Infini-attention.

Equation 10 of the paper, for each head, with `S` of the widths of values and keys:

    S_t = S_{t-1} (alpha_t (I - beta_t k_t k_t^T)) + beta_t v_t k_t^T
    o_t = S_t q_t

Its block (section 3.4): q, k and v are projected, pass a causal convolution over four tokens and SiLU, and q and k get
length 1. `beta_t` is a sigmoid of the input, `alpha_t = exp(-exp(a) softplus(W x_t + b))` as in Mamba2, with the
initial values of Mamba2. The output is normalised, gated by SiLU of a projection of the input, and projected.

Widths are those of the model that it stands beside: `S` has as many numbers as that one's M. Norms, MLP, embeddings,
head and initial weights are Llama's; there are no positions.

The state of a stream, `DeltaNetState`, is advanced by the model, as the caches of transformers are.

Dimension letters: B rows, T tokens, H heads, K width of keys and of values, C tokens of a chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

_CONVOLVED = 4
_CHUNK = 16
_IGNORED = -100


@dataclass
class DeltaNetState:
    """The state of streams.

    Attributes:
        matrices: `S` of each layer, `(B, H, K, K)`; empty at the start.
        recent: The last three inputs of each layer's convolutions, `(B, 3, 3 * hidden_size)`.
    """

    matrices: dict[int, Tensor] = field(default_factory=dict)
    recent: dict[int, Tensor] = field(default_factory=dict)


def gated_delta_rule(
    queries: Tensor, keys: Tensor, values: Tensor, log_alpha: Tensor, beta: Tensor, matrix: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the outputs of equation 10, `(B, T, H, K)`, and the last `S`.

    What a token writes is `u_t = beta_t (v_t - alpha_t S_{t-1} k_t)`. With `g_t` the product of all alpha of a chunk up
    to `t`, `S_t = g_t S_0 + sum over i <= t of (g_t / g_i) u_i k_i^T`, so all `u` of a chunk solve one triangular
    system, in place of a loop over tokens (section 3.3 of the paper).

    Args:
        queries: `(B, T, H, K)`.
        keys: `(B, T, H, K)`, of length 1.
        values: `(B, T, H, K)`.
        log_alpha: `(B, T, H)`, at most 0.
        beta: `(B, T, H)`.
        matrix: `S` before the first token, `(B, H, values, keys)`.
    """
    outputs = []
    for q, k, v, a, b in zip(
        *(x.transpose(1, 2).split(_CHUNK, dim=2) for x in (queries, keys, values, log_alpha, beta)), strict=True
    ):
        size = k.shape[2]
        g = a.cumsum(2)
        seen = torch.ones(size, size, dtype=torch.bool, device=k.device).tril()
        # Masked before `exp`: above the diagonal it could overflow. (B, H, C, C)
        ratio = (g.unsqueeze(3) - g.unsqueeze(2)).masked_fill(~seen, -math.inf).exp()
        decay = g.exp().unsqueeze(3)
        system = (b.unsqueeze(3) * ratio * (k @ k.mT)).tril(-1)
        right = b.unsqueeze(3) * (v - decay * (k @ matrix.mT))
        written = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
        outputs.append(decay * (q @ matrix.mT) + (ratio * (q @ k.mT)) @ written)
        matrix = decay[:, :, -1:] * matrix + (ratio[:, :, -1].unsqueeze(3) * written).mT @ k
    return torch.cat(outputs, dim=2).transpose(1, 2), matrix


class GatedDeltaNetMixer(nn.Module):
    """What stands in a block in place of attention."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.convolution = nn.Conv1d(3 * width, 3 * width, _CONVOLVED, groups=3 * width, bias=False)
        self.alpha_proj = nn.Linear(width, self.heads, bias=False)
        self.beta_proj = nn.Linear(width, self.heads, bias=False)
        self.gate_proj = nn.Linear(width, width, bias=False)
        self.norm = LlamaRMSNorm(width // self.heads, eps=config.rms_norm_eps)
        self.o_proj = nn.Linear(width, width, bias=False)
        # As in Mamba2: exp(a) from 1 to 16, and softplus(b) from 0.001 to 0.1, even in its logarithm.
        self.log_rate = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        step = torch.empty(self.heads).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.step_bias = nn.Parameter(step + (-torch.expm1(-step)).log())

    def forward(self, hidden: Tensor, layer: int, state: DeltaNetState) -> Tensor:
        """Return the output, `(B, T, hidden_size)`, and advance the state of the layer.

        Args:
            hidden: `(B, T, hidden_size)`.
            layer: Number of the layer.
            state: The state of the streams.
        """
        rows, tokens, width = hidden.shape
        projected = self.qkv_proj(hidden)
        before = state.recent.get(layer)
        if before is None:
            before = projected.new_zeros(rows, _CONVOLVED - 1, 3 * width)
        projected = torch.cat((before, projected), dim=1)
        state.recent[layer] = projected[:, 1 - _CONVOLVED :]
        mixed = nn.functional.silu(self.convolution(projected.mT).mT)
        queries, keys, values = mixed.view(rows, tokens, 3, self.heads, -1).unbind(2)
        matrix = state.matrices.get(layer)
        if matrix is None:
            matrix = values.new_zeros(rows, self.heads, values.shape[3], values.shape[3])
        outputs, state.matrices[layer] = gated_delta_rule(
            nn.functional.normalize(queries, dim=-1),
            nn.functional.normalize(keys, dim=-1),
            values,
            -self.log_rate.exp() * nn.functional.softplus(self.alpha_proj(hidden) + self.step_bias),
            torch.sigmoid(self.beta_proj(hidden)),
            matrix,
        )
        gated = self.norm(outputs).flatten(2) * nn.functional.silu(self.gate_proj(hidden))
        return self.o_proj(gated)  # type: ignore[no-any-return]


class GatedDeltaNetBlock(nn.Module):
    """Mixer and MLP, each behind a norm and beside a residual stream, as in Llama."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mixer = GatedDeltaNetMixer(config)
        self.mlp_norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = LlamaMLP(config)

    def forward(self, hidden: Tensor, layer: int, state: DeltaNetState) -> Tensor:
        """Return the residual stream after the block, `(B, T, hidden_size)`; the arguments are the mixer's."""
        hidden = hidden + self.mixer(self.input_norm(hidden), layer, state)
        return hidden + self.mlp(self.mlp_norm(hidden))  # type: ignore[no-any-return]


class GatedDeltaNetForCausalLM(nn.Module):
    """A language model of such blocks, called as those of transformers are."""

    def __init__(self, config: LlamaConfig, *, embedding_dropout: float = 0.0) -> None:
        super().__init__()
        self.config, self.embedding_dropout = config, embedding_dropout
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(GatedDeltaNetBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        past_key_values: DeltaNetState | None = None,
        num_items_in_batch: int = 1,
        logits_to_keep: int = 0,
        use_cache: bool = True,
    ) -> SimpleNamespace:
        """Return `loss`, None without labels, and `logits`, `(B, T, vocab_size)`.

        Args:
            input_ids: `(B, T)`.
            labels: `(B, T)`, not shifted; -100 counts for nothing.
            past_key_values: The state of the streams so far; it is advanced. None at their start.
            num_items_in_batch: What the sum of all losses is divided by.
            logits_to_keep: For how many of the last tokens logits are computed; 0 for all.
            use_cache: Without effect; whoever wants the state passes one.
        """
        state = DeltaNetState() if past_key_values is None else past_key_values
        hidden = nn.functional.dropout(self.embed_tokens(input_ids), self.embedding_dropout, self.training)
        for number, block in enumerate(self.blocks):
            hidden = block(hidden, number, state)
        logits = self.head(self.norm(hidden[:, -logits_to_keep:]))
        loss = None
        if labels is not None:
            loss = (
                nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_IGNORED, reduction="sum"
                )
                / num_items_in_batch
            )
        return SimpleNamespace(loss=loss, logits=logits)
