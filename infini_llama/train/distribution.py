"""Train on several processes with DDP or FSDP2, on accelerators or CPUs.

Rule book:

* a model for FSDP2 is shared among the ranks before this module sees it (see `infini_llama.parallel.sharding`), and
  accelerate, which would wrap it with DDP, or share it otherwise, is told that it is prepared;
* before the first step the model's wrapper is checked, and refused if it is not the configured one;
* checkpoints are the same for DDP, FSDP2 and one process.
"""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import Any

import torch
from torch import distributed as torch_distributed
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from infini_llama.errors import ConfigError
from infini_llama.parallel import sharding
from infini_llama.progress import say


def destroy_process_group() -> None:
    """Destroy the process group, if there is one, when all work is done.

    Otherwise threads of gloo sometimes abort the interpreter at its end, and a launcher reports a finished run as
    failed. Garbage is collected first, because an unused trainer still holds the group.
    """
    if torch_distributed.is_available() and torch_distributed.is_initialized():
        gc.collect()
        torch_distributed.destroy_process_group()


class DistributedTrainer(Trainer):
    """transformers' Trainer, with a check that the model has the configured wrapper.

    Args:
        distributed: `ddp` or `fsdp2`; a single process uses neither.
        **kwargs: As for `transformers.Trainer`; with several processes and `fsdp2` the model is a sharded one.
    """

    def __init__(self, *, distributed: str, **kwargs: Any) -> None:
        self._distributed = distributed
        super().__init__(**kwargs)

    @property
    def wrapper(self) -> str:
        """Name of the class that wraps the model, such as DistributedDataParallel; without one the model itself."""
        return type(self.model_wrapped).__name__

    @property
    def is_sharded(self) -> bool:
        """Whether each rank holds a share of the model."""
        return isinstance(self.model, FSDPModule)

    def compute_loss_context_manager(self) -> contextlib.AbstractContextManager[Any]:  # type: ignore[override]
        """Return autocast for FSDP2; otherwise accelerate has already put autocast into the model's forward."""
        return self.accelerator.autocast() if self.is_sharded else super().compute_loss_context_manager()

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_sharded:
            assert self.model is not None
            # accelerate returns a model with this mark as it is.
            vars(self.model)["_is_accelerate_prepared"] = True
        prepared = super()._prepare_for_training(*args, **kwargs)  # type: ignore[no-untyped-call]
        kinds = {"ddp": DistributedDataParallel, "fsdp2": FSDPModule}
        if self.args.world_size > 1 and not isinstance(self.model_wrapped, kinds[self._distributed]):
            raise ConfigError(
                f"training.distributed: expected {self._distributed}, found the model wrapped as {self.wrapper}",
                hint="the versions of transformers and accelerate do not fit together; see setup.cfg",
            )
        if self.args.world_size > 1:
            say(f"{self.args.world_size} processes, {self._distributed}: the model is wrapped as {self.wrapper}")
        return prepared

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the whole model, so that `from_pretrained` can load it."""
        if not self.is_sharded:
            super().save_model(output_dir, _internal_call)
            return
        assert self.model is not None
        weights = sharding.gather(dict(self.model.named_parameters()), keep=self.args.should_save)
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        state = sharding.gather(self.optimizer.state_dict(), keep=self.args.should_save)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if not self.is_sharded:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        assert self.model is not None
        sharding.load_weights(self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.is_sharded or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(sharding.shard_optimizer_state(state, self.optimizer))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))
