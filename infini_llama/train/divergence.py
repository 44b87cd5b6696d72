"""End a run that has diverged, before it overwrites good checkpoints.

After a loss or a gradient that is not finite, one step makes all weights not finite, for ever. The run would continue
for hours without learning, and its checkpoints would replace the last good ones.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from infini_llama.errors import DivergenceError
from infini_llama.run_folder import checkpoints


class StopAtDivergence(TrainerCallback):
    """Ends a run at the first logged loss that is not finite. All ranks log the same mean, so all end at the same step.

    Args:
        output_dir: The run's folder.
    """

    def __init__(self, output_dir: Path) -> None:
        self._output_dir = output_dir

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Check the loss.

        Raises:
            DivergenceError: It is not finite.
        """
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise explain_divergence(f"loss {loss}", self._output_dir, state.global_step)


def check_weights(model: nn.Module, accelerator: Accelerator, output_dir: Path, step: int) -> None:
    """Check that all weights are finite, in a collective operation: all ranks raise, or none.

    Raises:
        DivergenceError: Some weights are not finite, on some rank.
    """
    names = [name for name, parameter in model.named_parameters() if not _is_finite(parameter.detach())]
    count = torch.tensor(len(names), device=accelerator.device)
    if int(accelerator.reduce(count, reduction="sum")):
        raise explain_divergence(
            f"weights of {names[0] if names else 'another rank'} that are not finite", output_dir, step
        )


def explain_divergence(what: str, output_dir: Path, step: int) -> DivergenceError:
    """Return the error for a run that has diverged."""
    latest = checkpoints.find_latest(output_dir)
    back = f"continue from {latest} with --resume and" if latest else "start again with"
    return DivergenceError(
        f"step {step}: expected finite numbers, found {what}: the training has diverged, and this step is not saved",
        hint=f"{back} a lower training.learning_rate or training.max_grad_norm, or a longer training.warmup_steps; "
        "look in metrics.jsonl for where the loss or grad_norm began to rise",
    )


def _is_finite(x: torch.Tensor) -> bool:
    # Of a sharded tensor check this rank's share.
    local = x.to_local() if hasattr(x, "to_local") else x
    return bool(torch.isfinite(local).all())
