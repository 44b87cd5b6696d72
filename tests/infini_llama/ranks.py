"""Run a function in several processes that know each other, as torchrun would start them."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch import distributed

from tests.infini_llama.forks import Fork, end_ranks, rank_variables


def in_ranks(count: int, work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Return what `work(rank)` returned in each of `count` processes of one gloo group.

    Args:
        count: How many.
        work: What each does; its result must be picklable.
        folder: Where results go.

    Raises:
        AssertionError: Some failed; the message holds their tracebacks.
    """
    places = [folder / f"rank-{rank}" for rank in range(count)]
    forks = [
        Fork(partial(_run, work, rank, place), {**variables, "ACCELERATE_USE_CPU": "true"})
        for rank, (place, variables) in enumerate(zip(places, rank_variables(count), strict=True))
    ]
    done = end_ranks(forks)
    assert not any(one.returncode for one in done), "\n".join(one.stderr for one in done)
    return [pickle.loads(place.read_bytes()) for place in places]


def _run(work: Callable[[int], Any], rank: int, place: Path) -> int:
    with _group():
        outcome = work(rank)
    place.write_bytes(pickle.dumps(outcome))
    return 0


@contextlib.contextmanager
def _group() -> Iterator[None]:
    distributed.init_process_group("gloo")
    yield
    distributed.barrier()
    distributed.destroy_process_group()
