"""Save tensors that FSDP2 has sharded over the ranks as whole tensors in a checkpoint, and load them again.

A checkpoint of a sharded run has the same files as any other, so a run with one process, DDP or FSDP2, on any number of
ranks, can continue from a checkpoint of any other. The cost is that one rank has all weights in RAM while it writes
them, and then all optimizer state.

`gather` is a collective operation: all ranks must call it with the same values in the same order.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from infini_llama.errors import ConfigError
from infini_llama.model.gate import NEW_GATE, OLD_GATE


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
        if shapes != found:
            names = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))
            raise ConfigError(
                f"the checkpoint holds another model's weights: {', '.join(names[:5])} differ",
                hint="resume with the model settings of the run",
            )
        with torch.no_grad():
            for ours, p in parameters.items():
                file, name = stored[ours]
                p.copy_(_shard_like(file.get_tensor(name), p))


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
