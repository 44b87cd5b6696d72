"""Run a function in several processes that know each other, as torchrun would start them.

They are forked, so they need not import torch again, which takes a process longer than most of these tests.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import distributed


def in_ranks(count: int, work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Return what `work(rank)` returned in each of `count` processes of one gloo group.

    Args:
        count: How many.
        work: What each does; its result must be picklable.
        folder: Where results go.

    Raises:
        AssertionError: Some failed; the message holds their tracebacks.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Otherwise what the parent has not flushed is written by each child too.
    sys.stdout.flush()
    sys.stderr.flush()
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            os._exit(_in_child(rank, count, port, work, folder))
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    outcomes = [(folder / f"rank-{rank}").read_bytes() for rank in range(count)]
    assert codes == [0] * count, "\n".join(pickle.loads(outcome) for outcome in outcomes)
    return [pickle.loads(outcome) for outcome in outcomes]


def _in_child(rank: int, count: int, port: int, work: Callable[[int], Any], folder: Path) -> int:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        ACCELERATE_USE_CPU="true",
    )
    torch.set_num_threads(1)
    try:
        with _group():
            outcome, code = pickle.dumps(work(rank)), 0
    except BaseException:
        outcome, code = pickle.dumps(f"rank {rank}: {traceback.format_exc()}"), 1
    (folder / f"rank-{rank}").write_bytes(outcome)
    return code


@contextlib.contextmanager
def _group() -> Iterator[None]:
    # What the parent has trained with.
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    distributed.init_process_group("gloo")
    yield
    distributed.barrier()
    distributed.destroy_process_group()
