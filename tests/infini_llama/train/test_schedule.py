"""What changes by step: the learning rate, beside transformers' own schedules and after a resume, and the spread."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from infini_llama.settings.sections import TrainingSettings
from infini_llama.train.schedule import Rewarming, has_changed, make_scheduler, peak_share, write_spread

BASE = TrainingSettings(steps=20, batch_size=1, learning_rate=0.5, gate_learning_rate=0.1, warmup_steps=4)


def training(**settings: Any) -> TrainingSettings:
    return dataclasses.replace(BASE, **settings)


def optimizer() -> torch.optim.Optimizer:
    rates = {"decay": 0.5, "gates": 0.1}
    return torch.optim.AdamW([{"name": n, "lr": r, "params": [torch.zeros(1)]} for n, r in rates.items()])


def rates_of(scheduler: LambdaLR, steps: int = 20) -> list[list[float]]:
    """Return the rates of all groups, step by step."""
    found = []
    for _ in range(steps):
        found.append(list(scheduler.get_last_lr()))
        scheduler.optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("settings", "name", "options"),
    [
        ({"schedule": "constant"}, "constant_with_warmup", {}),
        ({"schedule": "linear"}, "linear", {}),
        ({"schedule": "cosine"}, "cosine", {}),
        (
            {"schedule": "cosine", "min_learning_rate_ratio": 0.1},
            "cosine_with_min_lr",
            {"min_lr_rate": 0.1},
        ),
        (
            {"schedule": "wsd", "decay_steps": 5},
            "warmup_stable_decay",
            {"num_decay_steps": 5, "decay_type": "1-sqrt"},
        ),
        ({"schedule": "wsd"}, "warmup_stable_decay", {"num_decay_steps": 2, "decay_type": "1-sqrt"}),
    ],
    ids=["constant", "linear", "cosine", "minimum", "wsd", "wsd, a tenth"],
)
def test_rates_are_those_of_transformers(settings: dict[str, Any], name: str, options: dict[str, Any]) -> None:
    theirs = get_scheduler(
        name, optimizer(), num_warmup_steps=4, num_training_steps=20, scheduler_specific_kwargs=options
    )
    ours = make_scheduler(optimizer(), training(**settings), lambda: None)
    assert rates_of(ours) == [pytest.approx(rates, abs=1e-12) for rates in rates_of(theirs)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_a_schedule_that_falls_ends_at_its_minimum(schedule: str) -> None:
    settings = training(schedule=schedule, min_learning_rate_ratio=0.25)
    assert peak_share(settings, 20) == pytest.approx(0.25)
    assert peak_share(settings, 0) == 0


def test_a_run_that_is_nearly_all_warm_up_never_jumps() -> None:
    settings = training(schedule="wsd", warmup_steps=19)
    shares = [peak_share(settings, step) for step in range(21)]
    assert max(abs(a - b) for a, b in itertools.pairwise(shares[:20])) < 0.06


def test_a_changed_schedule_is_come_to_from_the_old_rate_in_a_straight_line() -> None:
    way = Rewarming(step=10, steps=4, rates={"decay": 0.1})
    scheduler = make_scheduler(optimizer(), training(schedule="constant"), lambda: way)
    rates = rates_of(scheduler)
    assert [decay for decay, _ in rates[9:15]] == pytest.approx([0.5, 0.1, 0.2, 0.3, 0.4, 0.5])
    # A group that the checkpoint did not have goes by the schedule.
    assert [gates for _, gates in rates[9:15]] == pytest.approx([0.1] * 6)


def test_only_what_the_rate_depends_on_counts_as_a_change() -> None:
    before = dataclasses.asdict(BASE)
    assert not has_changed(before, training(log_every_steps=3, weight_decay=0.3))
    assert has_changed(before, training(steps=21))
    # A checkpoint of a version that did not know these keys.
    old = {name: value for name, value in before.items() if name not in ("decay_steps", "min_learning_rate_ratio")}
    assert not has_changed(old, BASE)
    assert has_changed(old, training(min_learning_rate_ratio=0.1))


def test_the_spread_grows_in_a_straight_line_to_what_is_configured_and_stays() -> None:
    spreads = [write_spread(4.0, 4, step) for step in range(1, 8)]
    assert [spread.tolist() for spread in spreads if spread is not None] == [1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0]
    assert write_spread(4.0, 0, 1) is None
    assert write_spread(0.0, 4, 1) is None
