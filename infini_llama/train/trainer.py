"""transformers' Trainer with what Infini-Llama needs different, and nothing else.

* `training_step`: rows longer than `backprop_segments` go in parts (see `infini_llama.train.truncation`);
* `create_optimizer`: three parameter groups (see `infini_llama.train.optimizer`);
* `_load_optimizer_and_scheduler`, `_load_callback_state`: rates and intervals of the configuration, not the checkpoint;
* `_save_checkpoint`: written aside, synced, renamed, with its provenance (see `infini_llama.run_folder.checkpoints`);
* without the library's own log, which goes to stdout (see `infini_llama.train.metrics_log`).

Distribution, accumulation, clipping, precision, schedules, resuming: as the library does them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, TrainingArguments

from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.progress import say
from infini_llama.run_folder import checkpoints
from infini_llama.run_folder.checkpoints import Provenance
from infini_llama.settings.sections import Settings
from infini_llama.train.distribution import DistributedTrainer, sharding_arguments
from infini_llama.train.divergence import check_weights
from infini_llama.train.optimizer import parameter_groups
from infini_llama.train.truncation import parts


def training_arguments(settings: Settings, output_dir: Path) -> TrainingArguments:
    """Return the library's arguments for a run."""
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
        lr_scheduler_type="constant_with_warmup" if training.schedule == "constant" else training.schedule,
        warmup_steps=training.warmup_steps,
        bf16=training.precision == "bfloat16",
        activation_checkpointing=training.activation_checkpointing,
        logging_strategy="steps",
        logging_steps=training.log_every_steps,
        logging_first_step=True,
        # A loss that is not finite is to be seen, not replaced by the mean of the others.
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        save_strategy="steps",
        save_steps=training.checkpoint_every_steps,
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=not torch.cuda.is_available(),
        **sharding_arguments(settings.training.distributed),
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        # `document_ids` is no named parameter of the model's forward, and would be taken for a stray column.
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )


class InfiniTrainer(DistributedTrainer):
    """Trains an Infini-Llama.

    Args:
        settings: The resolved configuration.
        provenance: Written beside every checkpoint.
        **kwargs: As for `transformers.Trainer`.
    """

    def __init__(self, *, settings: Settings, provenance: Provenance, **kwargs: Any) -> None:
        self._settings, self._provenance = settings, provenance
        self._incoming: Path | None = None
        super().__init__(distributed=settings.training.distributed, **kwargs)
        self.remove_callback(PrinterCallback)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Return the loss of a batch and add up its gradients, part by part where a row is longer than they reach.

        The library scales each part's loss by the labels of the whole step (`num_items_in_batch`), and so the parts'
        losses and gradients add up to the row's.
        """
        tokens, reach = inputs["input_ids"].shape[1], self._settings.backprop_length
        if tokens <= reach:
            return super().training_step(model, {**inputs, "skip_logits": True}, num_items_in_batch)
        assert isinstance(self.model, InfiniLlamaForCausalLM)
        if num_items_in_batch is None:
            raise ValueError(
                "expected the number of labels in the step: parts of a row cannot be averaged without"
            )
        total, starts = torch.zeros((), device=self.args.device), range(0, tokens, reach)
        batch = self._prepare_inputs(inputs)
        for start, part in zip(starts, parts(batch, reach, self.model.config.num_hidden_layers), strict=True):
            # One exchange of gradients per row: the last part's.
            waits = contextlib.nullcontext() if start == starts[-1] else self.accelerator.no_sync(model)
            with waits:
                total += super().training_step(model, part, num_items_in_batch)
        return total

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

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load them as the library does, and then go by the configuration, not by the one of the checkpoint.

        Both come with the rates and decays that they were saved with, and would go on by those, whatever the log says
        of a changed configuration.
        """
        if checkpoint is None or self.optimizer is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        configured = [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in self.optimizer.param_groups
        ]
        super()._load_optimizer_and_scheduler(checkpoint)
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

    def _load_callback_state(self) -> None:
        """Load it as the library does, and then log and save in the intervals that are configured now.

        The library has just put the checkpoint's state, with its intervals, in the place of the one that it made.
        """
        super()._load_callback_state()
        self.state.compute_steps(self.args, self.args.max_steps)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._incoming or self.args.output_dir)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint aside and publish it when every rank has written its part.

        Raises:
            DivergenceError: There is nothing worth keeping.
            OSError: It cannot be written.
        """
        output_dir = Path(str(self.args.output_dir))
        check_weights(model, self.accelerator, output_dir, self.state.global_step)
        self._incoming = checkpoints.incoming_folder(output_dir)
        config = self.accelerator.unwrap_model(model).config
        # Trainer turns the cache off for training; whoever loads the checkpoint wants it on.
        config.use_cache = True
        try:
            with checkpoints.disk_errors(self._incoming):
                super()._save_checkpoint(model, trial)
        finally:
            self._incoming, config.use_cache = None, False
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            step = self.state.global_step
            folder = checkpoints.incoming_folder(output_dir) / f"checkpoint-{step}"
            (folder / checkpoints.CONFIG).write_text(self._settings.to_yaml(), encoding="utf-8")
            keep = self._settings.training.keep_checkpoints
            final = checkpoints.publish(folder, output_dir, self._provenance, step=step, keep=keep)
            say(f"checkpoint {final}")
        self.accelerator.wait_for_everyone()


def count_parameters(model: InfiniLlamaForCausalLM) -> int:
    """Return the number of parameters, tied ones counted once."""
    return sum(p.numel() for p in model.parameters())
