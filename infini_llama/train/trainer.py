"""transformers' Trainer, changed only where Infini-Llama needs it.

* `training_step`: rows longer than `backprop_segments` are split (see `infini_llama.train.truncation`), and the model
  is told how far the memory's spread has grown (see `infini_llama.train.schedule`);
* `create_optimizer`: three parameter groups (see `infini_llama.train.optimizer`);
* `create_scheduler`: minimum rates, plateaus and changed schedules (see `infini_llama.train.schedule`);
* `_get_train_sampler`: rows in an order that is computed (see `infini_llama.data.order`);
* `_load_optimizer_and_scheduler`, `_load_callback_state`: rates and intervals come from the configuration, not from the
  checkpoint;
* `_save_checkpoint`: written to another folder, synced, renamed, with its provenance
  (see `infini_llama.run_folder.checkpoints`); in the background if so configured, and renamed in a later step;
* the library's own log is off, because it goes to stdout (see `infini_llama.train.metrics_log`).

Distribution, accumulation, clipping, precision and resuming are the library's.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, TrainingArguments

from bundler.text.wording import counted
from infini_llama.data.drawing import Drawing
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.parallel import sharded_checkpoint
from infini_llama.parallel.context import read_share
from infini_llama.progress import say
from infini_llama.run_folder import checkpoints
from infini_llama.run_folder.checkpoints import Provenance
from infini_llama.run_folder.provenance import read_provenance
from infini_llama.settings.sections import Settings
from infini_llama.train.distribution import DistributedTrainer
from infini_llama.train.divergence import check_weights
from infini_llama.train.optimizer import parameter_groups
from infini_llama.train.schedule import Rewarming, has_changed, make_scheduler, write_spread
from infini_llama.train.trackers import choose_tracker
from infini_llama.train.truncation import split_into_parts


def training_arguments(settings: Settings, output_dir: Path) -> TrainingArguments:
    """Return the library's arguments for a run.

    Raises:
        DependencyError: The package that `training.report_to` names is not installed.
    """
    training = settings.training
    return TrainingArguments(
        output_dir=str(output_dir),
        max_steps=training.steps,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        weight_decay=settings.weight_decay,
        adam_beta1=training.adam_beta1,
        adam_beta2=training.adam_beta2,
        max_grad_norm=training.max_grad_norm,
        bf16=training.precision == "bfloat16",
        torch_compile=training.compile,
        activation_checkpointing=training.activation_checkpointing,
        logging_strategy="steps",
        logging_steps=training.log_every_steps,
        logging_first_step=True,
        # Log a loss that is not finite; the default would replace it by the mean of the others.
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        save_strategy="steps",
        save_steps=training.checkpoint_every_steps,
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        # So that the library never drops `document_ids` as an unused column.
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=choose_tracker(training.report_to, output_dir),
    )


class InfiniTrainer(DistributedTrainer):
    """Trains an Infini-Llama.

    Args:
        settings: The resolved configuration.
        provenance: The provenance to write beside every checkpoint.
        drawing: The order of the rows; None for that of the library, in which old runs began.
        **kwargs: As for `transformers.Trainer`.
    """

    def __init__(
        self, *, settings: Settings, provenance: Provenance, drawing: Drawing | None = None, **kwargs: Any
    ) -> None:
        self._settings, self._provenance, self._drawing = settings, provenance, drawing
        self._incoming: Path | None = None
        self._rewarming: Rewarming | None = None
        self._unpublished: int | None = None
        training = settings.training
        super().__init__(
            distributed=training.distributed, in_shards=training.checkpoint_format == "shards", **kwargs
        )
        self.remove_callback(PrinterCallback)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Return the loss of a batch, and add up its gradients; rows longer than `backprop_segments` go part by part.

        The library divides the loss of each part by the labels of the whole step (`num_items_in_batch`), so losses and
        gradients of the parts add up to those of the row.

        Raises:
            ValueError: `num_items_in_batch` is None, and the row has several parts.
        """
        self._publish_written(wait=False)
        if self._context is not None:
            inputs = read_share(inputs, self._context)
        settings, step = self._settings, self.state.global_step + 1
        inputs = {**inputs, "share_segments": settings.data.share_segments}
        growing = settings.training.spread_warmup_steps
        spread = write_spread(settings.model.memory_write_spread, growing, step, self.args.device)
        if spread is not None:
            inputs["write_spread"] = spread
        tokens, reach = inputs["input_ids"].shape[1], settings.backprop_length
        if tokens <= reach:  # always so for a share of rows
            return super().training_step(model, {**inputs, "skip_logits": True}, num_items_in_batch)
        assert isinstance(self.model, InfiniLlamaForCausalLM)
        if num_items_in_batch is None:
            raise ValueError(
                "expected the number of labels in the step: parts of a row cannot be averaged without it"
            )
        total, starts = torch.zeros((), device=self.args.device), range(0, tokens, reach)
        batch = self._prepare_inputs(inputs)
        for start, part in zip(
            starts, split_into_parts(batch, reach, self.model.config.num_hidden_layers), strict=True
        ):
            # Under DDP, exchange gradients once per row, at its last part. FSDP2 adds them up as shares.
            waits = contextlib.nullcontext() if start == starts[-1] else self.accelerator.no_sync(model)
            with waits:
                total += super().training_step(model, part, num_items_in_batch)
        return total

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the library does, and publish the last checkpoint."""
        outcome = super().train(*args, **kwargs)
        self._publish_written(wait=True)
        return outcome

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[Any] | None:
        """Return the rows of all steps; the library skips those of the steps before a resume."""
        if self._drawing is None:
            return super()._get_train_sampler(train_dataset)
        return self._drawing.draws(self.args.max_steps)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Return AdamW over the groups of `infini_llama.train.optimizer`, made on the first call."""
        if self.optimizer is None:
            training = self._settings.training
            trained = self.model if model is None else model
            assert trained is not None
            groups = parameter_groups(
                trained,
                learning_rate=training.learning_rate,
                gate_learning_rate=training.gate_learning_rate,
                weight_decay=self._settings.weight_decay,
                decay_embeddings=training.decay_embeddings,
            )
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Return the schedule of `infini_llama.train.schedule`, made on the first call."""
        if self.lr_scheduler is None:
            steered = self.optimizer if optimizer is None else optimizer
            assert steered is not None
            self.lr_scheduler = make_scheduler(steered, self._settings.training, lambda: self._rewarming)
        return self.lr_scheduler

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load both as the library does, then set rates and decays of the present configuration.

        Otherwise the saved rates and decays would be used, although the log reports a changed configuration.
        """
        if checkpoint is None or self.optimizer is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        configured = [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in self.optimizer.param_groups
        ]
        super()._load_optimizer_and_scheduler(checkpoint)
        self._rewarm(Path(checkpoint))
        schedule = self.lr_scheduler
        assert isinstance(schedule, LambdaLR)
        schedule.base_lrs = [options["initial_lr"] for options in configured]
        rates = [
            base * factor(schedule.last_epoch)
            for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        ]
        schedule._last_lr = rates
        for group, options, rate in zip(self.optimizer.param_groups, configured, rates, strict=True):
            group.update(options, lr=rate)

    def _rewarm(self, checkpoint: Path) -> None:
        """Begin the way to a changed schedule, or go on with one that a checkpoint is on."""
        training, before = self._settings.training, read_provenance(checkpoint)
        record = before.get("rewarming", {})
        if training.rewarm_steps and has_changed(before["settings"]["training"], training):
            assert self.optimizer is not None
            rates = {str(group["name"]): float(group["lr"]) for group in self.optimizer.param_groups}
            record = {"step": before["step"], "steps": training.rewarm_steps, "rates": rates}
            say(f"note: {counted(training.rewarm_steps, 'step')} lead to the changed learning rates")
        self._rewarming = Rewarming(**record) if record else None
        self._provenance = replace(self._provenance, rewarming=record)

    def _load_callback_state(self) -> None:
        """Load it as the library does, then set the intervals for log and checkpoints of the present configuration.

        The library has just replaced its own state by that of the checkpoint, with the old intervals.
        """
        super()._load_callback_state()
        self.state.compute_steps(self.args, self.args.max_steps)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._incoming or self.args.output_dir)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint to the incoming folder, and publish it when every rank has written its part.

        Raises:
            DivergenceError: The weights are not finite.
            OSError: The checkpoint cannot be written.
        """
        output_dir = Path(str(self.args.output_dir))
        self._publish_written(wait=True)
        # The last one is waited for anyway.
        in_background = self._settings.training.checkpoint_in_background
        self._in_background = in_background and not self.control.should_training_stop
        check_weights(model, self.accelerator, output_dir, self.state.global_step)
        self._incoming = checkpoints.incoming_folder(output_dir)
        config = self.accelerator.unwrap_model(model).config
        # Trainer switches the cache off for training; a program that loads the checkpoint needs it on.
        config.use_cache = True
        try:
            with checkpoints.disk_errors(self._incoming):
                super()._save_checkpoint(model, trial)
        finally:
            self._incoming, config.use_cache = None, False
        self._unpublished = self.state.global_step
        if not self._in_background:
            self.accelerator.wait_for_everyone()
            self._publish_written(wait=True)
            self.accelerator.wait_for_everyone()

    def _publish_written(self, *, wait: bool) -> None:
        """Publish the checkpoint that was saved last, unless it is; in the background, if all ranks have written it.

        Args:
            wait: Whether to wait for that.
        """
        if self._unpublished is None:
            return
        step, output_dir = self._unpublished, Path(str(self.args.output_dir))
        if self._writing is not None:
            if not (wait or self._writing.done()):
                return
            with checkpoints.disk_errors(output_dir):
                sharded_checkpoint.wait_for(self._writing)
        self._writing = self._unpublished = None
        if self.args.should_save:
            folder = checkpoints.incoming_folder(output_dir) / f"checkpoint-{step}"
            (folder / checkpoints.CONFIG).write_text(self._settings.to_yaml(), encoding="utf-8")
            keep = self._settings.training.keep_checkpoints
            order = self._drawing.record(step) if self._drawing is not None else {}
            provenance = replace(self._provenance, order=order)
            final = checkpoints.publish(folder, output_dir, provenance, step=step, keep=keep)
            say(f"checkpoint {final}")


def count_parameters(model: InfiniLlamaForCausalLM) -> int:
    """Return the number of parameters; tied ones count once."""
    return sum(p.numel() for p in model.parameters())
