"""Train on several processes with DDP or FSDP2, on accelerators or CPUs.

Rule book:

* a model for FSDP2 is shared among the ranks before this module sees it (see `infini_llama.parallel.sharding`), and
  accelerate, which would wrap it with DDP, or share it otherwise, is told that it is prepared;
* before the first step the model's wrapper is checked, and refused if it is not the configured one;
* checkpoints are the same for DDP, FSDP2 and one process, whole or in shards, and each can go on from any.
"""

from __future__ import annotations

import contextlib
import gc
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.data_loader import prepare_data_loader
from torch import distributed as torch_distributed
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from bundler.errors import UsageError
from infini_llama.errors import ConfigError
from infini_llama.parallel import sharded_checkpoint, sharding
from infini_llama.parallel.context import ContextGroup
from infini_llama.progress import say
from infini_llama.run_folder.checkpoints import SHARDS


def destroy_process_group() -> None:
    """Destroy the process group, if there is one, when all work is done.

    Otherwise threads of gloo sometimes abort the interpreter at its end, and a launcher reports a finished run as
    failed. Garbage is collected first, because an unused trainer still holds the group.
    """
    if torch_distributed.is_available() and torch_distributed.is_initialized():
        gc.collect()
        torch_distributed.destroy_process_group()


def check_same_step(step: int, group: Any) -> None:
    """Make sure that all ranks begin at one step: each finds by itself the checkpoint that it goes on from.

    Args:
        step: At which this rank begins.
        group: A process group on CPUs.

    Raises:
        UsageError: Ranks found different checkpoints.
    """
    steps: list[int | None] = [None] * torch_distributed.get_world_size(group)
    torch_distributed.all_gather_object(steps, step, group)
    if len({*steps}) > 1:
        raise UsageError(
            f"the ranks begin at different steps: {', '.join(map(str, steps))}, in the order of ranks",
            hint="another run was just ending in the folder, or ranks do not see the same folder; start them again",
        )


class DistributedTrainer(Trainer):
    """transformers' Trainer, with a check that the model has the configured wrapper.

    Args:
        distributed: `ddp` or `fsdp2`; a single process uses neither.
        in_shards: Whether checkpoints are in shards (see `infini_llama.parallel.sharded_checkpoint`).
        context: The ranks that share rows with this one, which are given the same rows; None if there are none.
        **kwargs: As for `transformers.Trainer`; with several processes and `fsdp2` the model is a sharded one.
    """

    def __init__(
        self, *, distributed: str, in_shards: bool = False, context: ContextGroup | None = None, **kwargs: Any
    ) -> None:
        self._distributed, self._in_shards, self._context = distributed, in_shards, context
        # Whether the next checkpoint is written while the training goes on; and what is being written so.
        self._in_background = False
        self._writing: Future[Any] | None = None
        self._background_group: Any = None
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

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of this rank, which are those of all ranks that share its rows."""
        if self._context is None:
            return super().get_train_dataloader()
        loader: DataLoader[Any] = DataLoader(
            cast("Dataset[Any]", self.train_dataset),
            batch_size=self._train_batch_size,
            collate_fn=self.data_collator,
            sampler=self._get_train_sampler(),
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared = prepare_data_loader(
            loader,
            self.args.device,
            num_processes=self.args.world_size // self._context.size,
            process_index=self.args.process_index // self._context.size,
            put_on_device=True,
            rng_types=self.accelerator.rng_types.copy(),
            even_batches=self.accelerator.even_batches,
            use_seedable_sampler=True,
            data_seed=self.args.data_seed,
        )
        # accelerate returns a loader with this mark as it is.
        vars(prepared)["_is_accelerate_prepared"] = True
        return cast("DataLoader[Any]", self.accelerator.prepare(prepared))

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
        """Save the whole model, so that `from_pretrained` can load it; in shards, all of it but the weights."""
        if self._in_shards and output_dir is not None:
            if self.args.should_save:
                self._save_description(output_dir)
            return
        if not self.is_sharded:
            super().save_model(output_dir, _internal_call)
            return
        assert self.model is not None
        weights = sharding.gather(dict(self.model.named_parameters()), keep=self.args.should_save)
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _save_description(self, output_dir: str) -> None:
        """Save configurations and tokenizer."""
        assert isinstance(self.model, PreTrainedModel)
        self.model.config.save_pretrained(output_dir)
        assert self.model.generation_config is not None
        self.model.generation_config.save_pretrained(output_dir)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(output_dir)

    def _save_shards(self, checkpoint: Path) -> None:
        """Write weights and optimizer state, or begin to."""
        assert self.model is not None
        assert self.optimizer is not None
        if not self._in_background:
            sharded_checkpoint.save(self.model, self.optimizer, checkpoint)
            return
        if self._background_group is None and self.args.world_size > 1:
            # Messages of a checkpoint must not meet those of the training.
            self._background_group = torch_distributed.new_group(backend="gloo")
        self._writing = sharded_checkpoint.save_in_background(
            self.model, self.optimizer, checkpoint, self._background_group
        )

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._in_shards:
            assert self.lr_scheduler is not None
            if self.args.should_save:
                torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)
            self._save_shards(Path(output_dir))
            return
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
        if (Path(resume_from_checkpoint) / SHARDS).is_dir():
            assert self.model is not None
            sharded_checkpoint.load_weights(self.model, Path(resume_from_checkpoint))
            return
        if not self.is_sharded:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        assert self.model is not None
        sharding.load_weights(self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        in_shards = checkpoint is not None and (Path(checkpoint) / SHARDS).is_dir()
        if checkpoint is None or not (self.is_sharded or in_shards):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        assert self.model is not None
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        if in_shards:
            sharded_checkpoint.load_optimizer(self.model, self.optimizer, Path(checkpoint))
            schedule = torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True)
            self.lr_scheduler.load_state_dict(schedule)
            for group, rate in zip(self.optimizer.param_groups, schedule["_last_lr"], strict=True):
                group["lr"] = rate
            return
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(sharding.shard_optimizer_state(state, self.optimizer))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))
