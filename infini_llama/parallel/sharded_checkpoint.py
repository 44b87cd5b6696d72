"""Save weights and optimizer state by shares, and load them on any number of ranks (torch.distributed.checkpoint).

Rule book:

* each rank writes what it holds, and reads what it will hold: none ever has a whole model, and ranks write at once;
* a tensor is saved under the name of its parameter, so that it does not matter how many ranks wrote it, or how many,
  or which wrapper, will read it;
* what is in the background is a copy: training goes on and changes nothing of it;
* `export` makes a folder that every transformers program can load, in RAM for one of its files.

`save` and the functions that load are collective operations: all ranks must call them.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as read_shards
from torch.distributed.checkpoint.state_dict_saver import async_save as begin_shards
from torch.distributed.checkpoint.state_dict_saver import save as write_shards
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from bundler.files.atomic import fsync_dir
from infini_llama.errors import ConfigError
from infini_llama.parallel.sharding import check_shapes
from infini_llama.run_folder.checkpoints import PROVENANCE, SHARDS, is_complete, seal
from infini_llama.run_folder.provenance import read_provenance

# torch says at each call that there is one process, where there is one.
warnings.filterwarnings("ignore", message="torch.distributed is disabled")
_WEIGHTS, _OPTIMIZER = "model.", "optimizer."
# Most bytes of weights in one file of an export.
FILE_BYTES = 5 << 30
_LEFT_OUT = ("scheduler.pt", "trainer_state.json", PROVENANCE)


def save(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Write a checkpoint's `SHARDS` folder.

    Raises:
        OSError: It cannot be written.
    """
    try:
        write_shards(_collect(model, optimizer), checkpoint_id=checkpoint / SHARDS, no_dist=_is_alone())
    except CheckpointException as error:
        raise _find_cause(error) from error


def save_in_background(
    model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path, group: Any
) -> Future[Any]:
    """Begin to write a checkpoint's `SHARDS` folder from a copy in RAM; the result is there when all ranks have.

    Args:
        model: The model.
        optimizer: Its optimizer.
        checkpoint: The folder.
        group: A process group of all ranks on CPUs, which nothing else uses meanwhile; None for one process.
    """
    state = _collect(model, optimizer)
    path = checkpoint / SHARDS
    begun = begin_shards(state, checkpoint_id=path, process_group=group, no_dist=_is_alone())
    assert isinstance(begun, Future)
    return begun


def wait_for(writing: Future[Any]) -> None:
    """Wait until a checkpoint that is written in the background is there.

    Raises:
        OSError: It cannot be written.
    """
    try:
        writing.result()
    except CheckpointException as error:
        raise _find_cause(error) from error


def _find_cause(error: CheckpointException) -> BaseException:
    """Return the first error of any rank, which says more than the one that names all ranks."""
    found: BaseException = next(iter(error.failures.values()))[0]
    return found


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Read weights into a model, each rank its share.

    Raises:
        ConfigError: The weights are those of another model.
    """
    parameters = dict(model.named_parameters())
    found = {name: tuple(x.size) for name, x in _stored(checkpoint, _WEIGHTS)}
    check_shapes({name: tuple(p.shape) for name, p in parameters.items()}, found)
    _load({_WEIGHTS + name: p.detach() for name, p in parameters.items()}, checkpoint)


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Read an optimizer's state, each rank its share; options of parameter groups stay as they are."""
    named = {p: name for name, p in model.named_parameters()}
    owners = {name: p for p, name in named.items()}
    state: dict[str, dict[str, Tensor]] = {name: {} for name in owners}
    for key, x in _stored(checkpoint, _OPTIMIZER):
        name, _, what = key.rpartition(".")
        p = owners[name]
        # A moment is shared as its parameter is; a number of steps is whole everywhere.
        is_moment = tuple(x.size) == tuple(p.shape)
        dtype = x.properties.dtype
        state[name][what] = torch.zeros_like(p, dtype=dtype) if is_moment else torch.zeros(x.size, dtype=dtype)
    _load({f"{_OPTIMIZER}{n}.{what}": x for n, kept in state.items() for what, x in kept.items()}, checkpoint)
    order = [p for group in optimizer.param_groups for p in group["params"]]
    # By way of `load_state_dict`, which puts a number of steps where the optimizer needs it.
    kept = {index: state[named[p]] for index, p in enumerate(order) if state[named[p]]}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})


def export(checkpoint: Path, output_dir: Path) -> int:
    """Write a sharded checkpoint's model to a new folder, in the files that `from_pretrained` reads.

    Args:
        checkpoint: A complete checkpoint with a `SHARDS` folder.
        output_dir: The new folder; it appears when it is complete.

    Returns:
        Number of the model's parameters.

    Raises:
        ConfigError: `output_dir` exists, or `checkpoint` is no complete sharded checkpoint.
    """
    if output_dir.exists():
        raise ConfigError(f"{output_dir} exists; an export writes a new folder", hint="name another --output-dir")
    if not is_complete(checkpoint) or not (checkpoint / SHARDS).is_dir():
        raise ConfigError(
            f"{checkpoint}: expected a complete checkpoint with a folder {SHARDS}, found none",
            hint="a checkpoint with model.safetensors needs no export",
        )
    incoming = output_dir.with_name(f".{output_dir.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    for path in sorted(checkpoint.iterdir()):
        if path.is_file() and path.name not in _LEFT_OUT and not path.name.startswith("rng_state"):
            shutil.copyfile(path, incoming / path.name)
    parameters = _write_weights(checkpoint, incoming)
    seal(incoming, read_provenance(checkpoint))
    incoming.rename(output_dir)
    fsync_dir(output_dir.parent)
    return parameters


def _write_weights(checkpoint: Path, folder: Path) -> int:
    groups = list(_group_by_file(checkpoint))
    total, weight_map = 0, {}
    for number, group in enumerate(groups, 1):
        tensors = {name: torch.empty(x.size, dtype=x.properties.dtype) for name, x in group.items()}
        _load({_WEIGHTS + name: x for name, x in tensors.items()}, checkpoint)
        file = SAFE_WEIGHTS_NAME if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, file))
        total += sum(x.numel() for x in tensors.values())
    if len(groups) > 1:
        size = sum(_bytes(x) for group in groups for x in group.values())
        index = {"metadata": {"total_size": size, "total_parameters": total}, "weight_map": weight_map}
        (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")
    return total


def _group_by_file(checkpoint: Path) -> Iterator[dict[str, TensorStorageMetadata]]:
    """Yield the weights of each file by name; a file has at most `FILE_BYTES`, or one weight."""
    group: dict[str, TensorStorageMetadata] = {}
    for name, x in _stored(checkpoint, _WEIGHTS):
        if group and sum(map(_bytes, group.values())) + _bytes(x) > FILE_BYTES:
            yield group
            group = {}
        group[name] = x
    yield group


def _bytes(x: TensorStorageMetadata) -> int:
    return x.size.numel() * x.properties.dtype.itemsize


def _collect(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    named = list(model.named_parameters())
    state: dict[str, Any] = {_WEIGHTS + name: p.detach() for name, p in named}
    for name, p in named:
        state |= {f"{_OPTIMIZER}{name}.{what}": x for what, x in optimizer.state[p].items()}
    return state


def _stored(checkpoint: Path, prefix: str) -> Iterator[tuple[str, TensorStorageMetadata]]:
    """Yield the name after a prefix, and shape and dtype, of each tensor in a checkpoint."""
    metadata = FileSystemReader(checkpoint / SHARDS).read_metadata()
    for name, x in metadata.state_dict_metadata.items():
        if name.startswith(prefix):
            assert isinstance(x, TensorStorageMetadata)
            yield name.removeprefix(prefix), x


def _load(state: dict[str, Tensor], checkpoint: Path) -> None:
    read_shards(state, checkpoint_id=checkpoint / SHARDS, no_dist=_is_alone())


def _is_alone() -> bool:
    return not (distributed.is_available() and distributed.is_initialized())
