"""The gate: the learned share of the memory in each head's output, beta in the paper.

It is a module that is only called, so that other libraries can train or replace it: peft with
`modules_to_save=["gate"]` keeps a trained copy beside the frozen one. Its parameter is named `bias` (it is the bias of
a gate without inputs) because trainers leave biases out of weight decay. Weight decay would pull the logit to 0, which
is a half-open gate.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# In version 0.1.0 gates were not modules: the parameter was in the attention itself. These are a pattern and its
# replacement for transformers' `key_mapping`. To save a model under its old names transformers reverses them, and can
# remove a lookahead from the pattern, but not a `$`.
OLD_GATE, NEW_GATE = r"self_attn\.gate(?!\.)", "self_attn.gate.bias"


class MemoryGate(nn.Module):
    """Mixes the output of local attention and of the memory.

    Attributes:
        bias: `(num_heads,)`, the logit of the memory's share.
    """

    def __init__(self, num_heads: int, initial: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((num_heads,), initial))

    def forward(self, attended: Tensor, recalled: Tensor, present: Tensor) -> Tensor:
        """Return g A_mem + (1 - g) A_dot, in the dtype of A_dot; A_dot alone where the memory is empty.

        Args:
            attended: A_dot, `(B, N, queries, heads, width)`.
            recalled: A_mem, of the same shape, in float32 or wider.
            present: `(B, N)` bool, whether the memory before the segment holds anything; or `(B, N, queries)`, whether
                it holds anything that the query may read.
        """
        share = torch.sigmoid(self.bias.to(recalled.dtype)).unsqueeze(-1)
        share = share * present.view(*present.shape, *(1,) * (recalled.dim() - present.dim()))
        # share * recalled + (1 - share) * attended, in one pass over memory
        return torch.lerp(attended.to(recalled.dtype), recalled, share).to(attended.dtype)
