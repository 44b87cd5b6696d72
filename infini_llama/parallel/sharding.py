"""Share a model among ranks with FSDP2: each holds a part of every weight, gradient and optimizer state.

Rule book:

* the unit is a layer: its weights are gathered before it computes, and given up after. A model is laid out on the meta
  device, and a rank never has more of it in memory than its share and one layer;
* gradients are added up as shares: every backward pass ends with a reduce-scatter, also where several parts of a row,
  or several batches, make one step. Whole gradients would take the memory of all weights in float32 on every rank;
* with bfloat16 the weights of layers travel in bfloat16; gradients are added up in float32, and shares stay float32.
  FSDP2 does not cast what goes into a layer, and so not the memory; autocast casts the operands of operations;
* the embeddings, the last norm and the head are gathered in float32, so that the sums that pass through all layers are
  float32, as without FSDP2. The head has no hooks, since `head_loss` computes with its weight and never calls it.

A whole checkpoint of a sharded run has the same files as any other. One rank then has all weights in RAM while it
writes them, and then all optimizer state; `infini_llama.parallel.sharded_checkpoint` has no such rank.

`gather` is a collective operation: all ranks must call it with the same values in the same order.
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from infini_llama.errors import ConfigError
from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.model.gate import NEW_GATE, OLD_GATE
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.parallel.initialize import empty_model, place_buffers


def build_sharded(
    config: InfiniLlamaConfig,
    weights: Iterable[tuple[str, Tensor]] | Path | None,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
) -> InfiniLlamaForCausalLM:
    """Return a model of which each rank holds a share.

    Args:
        config: The model's configuration.
        weights: The weights by name, or the folder to read them from; None if the caller will set them.
        device: Where the shares are.
        dtype: What weights of layers are gathered in.
        compiled: Whether to compile each layer.

    Raises:
        ConfigError: The weights are those of another model.
    """
    model = shard(empty_model(config), dtype=dtype, compiled=compiled)
    model.to_empty(device=device)
    model.tie_weights()
    place_buffers(model, device)
    if isinstance(weights, Path):
        load_weights(model, weights)
    elif weights is not None:
        copy_weights(model, weights)
    return model


def shard(model: InfiniLlamaForCausalLM, *, dtype: torch.dtype, compiled: bool = False) -> InfiniLlamaForCausalLM:
    """Share a model, which may be on the meta device, among all ranks, and return it; see `build_sharded`."""
    # torch warns of views among a layer's outputs, such as the state, since a change in place would lose a hook. Here
    # nothing is changed in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in model.model.layers:
        if compiled:
            layer.compile()
        fully_shard(layer, mp_policy=policy)
    if not model.config.tie_word_embeddings:
        fully_shard(model.model.embed_tokens)
    fully_shard(model)
    return model


def copy_weights(model: nn.Module, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Set each parameter that is named, each rank its share."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in weights:
            p = parameters[name]
            p.copy_(_shard_like(value, p))


def gather(value: Any, *, keep: bool) -> Any:
    """Return nested dicts and lists with all tensors whole and on the CPU.

    Args:
        value: A tensor, a dict or a list; any other value is returned as it is.
        keep: Whether this rank needs the result. Other ranks must call this too, and get dicts and lists of None.
    """
    if isinstance(value, DTensor):
        gathered = gather_whole(value)
        return gathered.detach().cpu() if keep else None
    if isinstance(value, dict):
        return {name: gather(part, keep=keep) for name, part in value.items()}
    if isinstance(value, list):
        return [gather(part, keep=keep) for part in value]
    return value


def gather_whole(x: Tensor) -> Tensor:
    """Return a tensor as a whole; if it is sharded, all ranks must call this."""
    if not isinstance(x, DTensor):
        return x
    gathered: Tensor = x.full_tensor()
    return gathered


def load_weights(model: nn.Module, folder: Path) -> None:
    """Copy the weights of a checkpoint into a model, each rank its share; only one tensor at a time is whole in RAM.

    Args:
        model: The model, sharded or not.
        folder: The checkpoint, with `model.safetensors`, or with an index and the several files that transformers
            writes for more than 50 GB. Gates may have their old name.

    Raises:
        ConfigError: The weights are those of another model.
    """
    parameters = dict(model.named_parameters())
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, framework="pt")) for path in _weight_files(folder)]
        # Our name -> (file, name in the file). safe_open has no iterator, so `keys` is needed.
        stored = {re.sub(OLD_GATE, NEW_GATE, name): (file, name) for file in files for name in file.keys()}  # noqa: SIM118
        shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        found = {ours: tuple(file.get_slice(name).get_shape()) for ours, (file, name) in stored.items()}
        check_shapes(shapes, found)
        copy_weights(model, ((ours, file.get_tensor(name)) for ours, (file, name) in stored.items()))


def check_shapes(shapes: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    """Check that a checkpoint has exactly the weights of a model.

    Args:
        shapes: The shapes of the model's parameters by name.
        found: Those of the checkpoint.

    Raises:
        ConfigError: It has not.
    """
    names = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))
    if names:
        raise ConfigError(
            f"the checkpoint holds another model's weights: {', '.join(names[:5])} differ",
            hint="resume with the model settings of the run",
        )


def _weight_files(folder: Path) -> list[Path]:
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    return [folder / name for name in sorted(set(json.loads(index.read_bytes())["weight_map"].values()))]


def shard_optimizer_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return whole optimizer state with each tensor sharded like its parameter.

    Args:
        state: The `state_dict` of an optimizer without shards.
        optimizer: The one that will load the result.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    dealt = {
        index: {
            name: _shard_like(x, parameters[index]) if isinstance(x, Tensor) and x.dim() else x
            for name, x in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": dealt}


def _shard_like(x: Tensor, parameter: Tensor) -> Tensor:
    if not isinstance(parameter, DTensor):
        return x
    # Without a source rank: every rank has read the same file, so nothing need be sent.
    placed = x.to(parameter.device)
    return distribute_tensor(placed, parameter.device_mesh, parameter.placements, src_data_rank=None)
