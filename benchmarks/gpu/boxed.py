"""Run a part of the check in a process of its own, for at most so long, and keep what it has said by then.

A part that fails, that hangs in a compiler or that runs out of memory takes nothing of the others along. The process
is forked, so that torch is imported once; for that the parent must not have used the device, nor computed on threads.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

Row = dict[str, Any]
Part = Callable[[], Iterator[Row]]


def run_boxed(part: Part, seconds: float) -> Iterator[Row]:
    """Yield the rows of a part as they come; if it does not end well, a last one has the reason under `failed`.

    Args:
        part: Makes the rows.
        seconds: After so long it is ended.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_work, args=(part, sender), daemon=True)
    process.start()
    sender.close()
    deadline = time.monotonic() + seconds
    try:
        while receiver.poll(max(0.0, deadline - time.monotonic())):
            row = receiver.recv()
            if row is None:
                return
            yield row
        yield {"failed": f"not done after {seconds:.0f} s"}
    except EOFError:
        process.join()
        yield {"failed": f"ended with exit code {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def _work(part: Part, sender: Connection) -> None:
    try:
        for row in part():
            sender.send(row)
    # The edge of a process: whatever it is, the parent is told.
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        sender.send({"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})
    sender.send(None)
    sender.close()
