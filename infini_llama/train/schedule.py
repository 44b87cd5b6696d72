"""What changes over the steps of a run: the learning rate, and the spread with which the memory is written.

Rule book:

* rate and spread of a step depend on the settings and the number of the step alone, so that a run that was stopped
  goes on as if it had not been;
* the rate rises in a straight line from 0 to the peak, stays there if the schedule has a plateau, and falls to
  `min_learning_rate_ratio` of the peak at the end;
* where a run resumes with other rates or another schedule, `rewarm_steps` lead in a straight line from the rate that
  the checkpoint had to the new schedule. A rate that jumps up undoes what was learnt. From where it leads is written
  into the provenance of all later checkpoints, so that these steps can be interrupted, too;
* the spread grows in a straight line to the configured one, and stays. It is handed to the model as a tensor, because a
  compiled model would be compiled again for each new number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from infini_llama.settings.sections import TrainingSettings

# The settings on which the rate of a step depends.
_KEYS = (
    "steps",
    "learning_rate",
    "gate_learning_rate",
    "schedule",
    "warmup_steps",
    "decay_steps",
    "min_learning_rate_ratio",
)
_CURVES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
    # Hägele et al. 2024, arXiv:2405.18392, section 3.2: it ends at a lower loss than a straight line.
    "wsd": lambda progress: 1 - math.sqrt(progress),
}


@dataclass(frozen=True, kw_only=True)
class Rewarming:
    """A way from the rates of a checkpoint to those of a new schedule.

    Attributes:
        step: Number of optimizer steps of that checkpoint.
        steps: In how many steps the way is gone.
        rates: Parameter group -> rate that the checkpoint would have gone on with.
    """

    step: int
    steps: int
    rates: Mapping[str, float]

    def lead(self, group: str, rate: float, step: int) -> float:
        """Return the rate of a group in a step, between the old one and `rate`, that of the new schedule."""
        share = (step - self.step) / self.steps
        if not 0 <= share < 1 or group not in self.rates:
            return rate
        return self.rates[group] * (1 - share) + rate * share


def has_changed(before: Mapping[str, Any], now: TrainingSettings) -> bool:
    """Return whether the rate of any step may differ between two configurations.

    Args:
        before: The section `training` of a checkpoint's settings; keys that were not known then have their defaults.
        now: The present one.
    """
    defaults = {"decay_steps": None, "min_learning_rate_ratio": 0.0}
    return any(before.get(name, defaults.get(name)) != getattr(now, name) for name in _KEYS)


def peak_share(training: TrainingSettings, step: int) -> float:
    """Return the learning rate of a step, counted from 0, as a share of the peak."""
    if step < training.warmup_steps:
        return step / training.warmup_steps
    decay = training.steps - training.warmup_steps
    if training.schedule == "wsd":
        decay = min(training.decay_steps or math.ceil(training.steps / 10), decay)
    progress = (step - (training.steps - decay)) / max(decay, 1)
    floor = training.min_learning_rate_ratio
    return floor + (1 - floor) * _CURVES[training.schedule](min(max(progress, 0.0), 1.0))


def write_spread(
    full: float, growing_steps: float, step: int, device: torch.device | None = None
) -> Tensor | None:
    """Return the model's `write_spread` in a step, `()`; None if it is the configured one in all steps.

    Args:
        full: `memory_write_spread` of the configuration.
        growing_steps: Number of steps after which it is reached.
        step: The step, counted from 1.
        device: Where the result is.
    """
    if not (full and growing_steps):
        return None
    return torch.tensor(full * min(1.0, step / growing_steps), device=device)


def make_scheduler(
    optimizer: Optimizer, training: TrainingSettings, rewarming: Callable[[], Rewarming | None]
) -> LambdaLR:
    """Return torch's scheduler for the rates of all parameter groups.

    Args:
        optimizer: Its groups have a `name`, and their peak as `lr`.
        training: The configuration.
        rewarming: Called at each step; None where the run goes on as it began.
    """

    def factor(group: str, peak: float) -> Callable[[int], float]:
        def of(step: int) -> float:
            share, way = peak_share(training, step), rewarming()
            return way.lead(group, peak * share, step) / peak if way is not None else share

        return of

    groups = [(str(group["name"]), float(group["lr"])) for group in optimizer.param_groups]
    return LambdaLR(optimizer, [factor(name, peak) for name, peak in groups])
