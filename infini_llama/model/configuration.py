"""`InfiniLlamaConfig`: a Llama configuration with the keys of Infini-attention.

All other keys (heads, RoPE, norms, tying) mean the same as in `LlamaConfig`, so adding `segment_length` makes an
Infini-Llama configuration of that of a Llama checkpoint.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig

from infini_llama.model.standalone import AUTO_MAP, package_only, write_modeling_file

# e^16 segments are nine million.
_MOST_SPREAD = 16.0


@strict
class InfiniLlamaConfig(LlamaConfig):
    """Configuration of an Infini-Llama (arXiv 2404.07143 on top of Llama).

    Attributes:
        segment_length: Tokens that local attention sees at once; the memory is updated after each segment.
        memory_update: `"linear"` adds each segment's associations as they are; `"delta"` first subtracts what the
            memory already answers.
        gate_init: Initial logit of every gate; 0 is half open. Far from 0 the sigmoid is flat, and the gates do not
            move.
        embedding_dropout: Share of the embeddings that is set to 0 in training; Llama has none. It adds noise to the
            keys. Without noise a model that has learnt its task on short rows does not learn to keep filler out of
            the memory, and long rows have more filler.
        memory_write_spread: In training each segment is written e^u times, with u drawn evenly from -spread to spread
            for each row, segment and layer: M + e^u sigma(K)^T V, z + e^u sum sigma(K). The paper has none of it (0).
            Short rows then have what a memory meets after thousands of segments, much filler against little to keep.
    """

    model_type = "infini_llama"
    # No plans: the base class's plans do not split the gates, which belong to heads.
    base_model_tp_plan = None  # type: ignore[assignment]
    base_model_pp_plan = None  # type: ignore[assignment]

    segment_length: int = 2048
    memory_update: Literal["linear", "delta"] = "linear"
    gate_init: float = 0.0
    embedding_dropout: float = 0.0
    memory_write_spread: float = 0.0

    def validate_architecture(self) -> None:
        """Check what types cannot express; the base class calls this after every change.

        Raises:
            ValueError: A value is out of range.
        """
        super().validate_architecture()  # type: ignore[no-untyped-call]
        if self.segment_length < 1:
            raise ValueError(f"segment_length must be at least 1, found {self.segment_length}")
        if not 0 <= self.embedding_dropout < 1:
            raise ValueError(f"embedding_dropout must be at least 0 and below 1, found {self.embedding_dropout}")
        if not 0 <= self.memory_write_spread <= _MOST_SPREAD:
            raise ValueError(
                f"memory_write_spread must be from 0 to {_MOST_SPREAD}, found {self.memory_write_spread}"
            )
        if not math.isfinite(self.gate_init):
            raise ValueError(
                f"gate_init must be finite, found {self.gate_init}; ±20 is closed or open in practice"
            )

    @package_only
    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Write config.json, and the file of the model, which config.json names, for programs without this package."""
        self.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, push_to_hub, **kwargs)
        write_modeling_file(Path(save_directory))
