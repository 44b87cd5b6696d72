"""The learned share that the memory has in each head's output: the paper's beta.

A module of its own, which is called and not looked into, so that what trains or replaces modules can: peft with
`modules_to_save=["gate"]` keeps a trained copy beside the frozen one. Its parameter is named `bias`, and is one, of a
gate without inputs. Under that name other trainers leave it out of weight decay, too, which would pull the logit to 0,
that is the gate to half open.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# In version 0.1.0 gates were no modules, and the parameter stood in the attention itself. A pattern and its
# replacement, as transformers takes them for `key_mapping`. It reads them backwards to save a model under the names
# that it was loaded by, and knows to leave out a lookahead, not a `$`.
OLD_GATE, NEW_GATE = r"self_attn\.gate(?!\.)", "self_attn.gate.bias"


class MemoryGate(nn.Module):
    """Mixes what local attention and the memory answer.

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
            present: `(B, N)` bool, whether the memory before the segment holds anything.
        """
        share = torch.sigmoid(self.bias.to(recalled.dtype)).unsqueeze(-1)
        share = share * present.view(*present.shape, 1, 1, 1)
        # share * recalled + (1 - share) * attended, in one pass over memory
        return torch.lerp(attended.to(recalled.dtype), recalled, share).to(attended.dtype)
