"""Infini-Llama: a Llama with Infini-attention, trained offline from a verified bundle.

Importing this package imports neither torch nor transformers: that must not happen before the network is shut
(`bundler.enforce_offline`). The model classes are imported on first use; `import infini_llama.model.modeling` registers
them with transformers' Auto classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infini_llama.model.cache import InfiniCache
    from infini_llama.model.configuration import InfiniLlamaConfig
    from infini_llama.model.modeling import InfiniLlamaForCausalLM, InfiniLlamaModel

__all__ = ["InfiniCache", "InfiniLlamaConfig", "InfiniLlamaForCausalLM", "InfiniLlamaModel"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Always import `modeling`, which registers all classes, so that AutoModelForCausalLM knows them.
    from infini_llama.model import modeling

    return getattr(modeling, name)
