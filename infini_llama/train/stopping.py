"""Signals that end a run in order: a checkpoint at the next step boundary, and an exit code that says "resume me".

Rule book:

* SIGTERM, SIGUSR1 (what schedulers send before they kill) and SIGINT (Ctrl-C) ask for the stop; whichever rank gets
  one, all ranks stop after the same step: they compare notes at the end of each;
* the same request often comes more than once: a launcher passes on what its whole process group got already, as
  `timeout` and `scancel --full` do. What follows within `REPEAT_SECONDS` is one request;
* a signal after that ends the process at once, wherever it is. Nothing is lost by it but steps: a checkpoint is
  published by one rename;
* a stopped run leaves a note in its folder (`infini_llama.run_folder.stopped`), since launchers such as torchrun
  end with codes of their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from infini_llama.progress import say

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
REPEAT_SECONDS = 1.0


class StopRequest:
    """What signals have asked of this process.

    Attributes:
        signal: The first that came, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0

    def note(self, received: signal.Signals) -> None:
        """Take a signal; the second request does not return."""
        if self.signal is None:
            self.signal, self._since = received, time.monotonic()
            os.write(2, f"{received.name}: stopping after this step, with a checkpoint\n".encode())
        elif time.monotonic() - self._since >= REPEAT_SECONDS:
            os.write(2, f"{received.name} again: stopping at once; the last checkpoint stays as it is\n".encode())
            os._exit(128 + received)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Take `SIGNALS` as requests to stop; outside the main thread, where Python allows no handlers, do nothing.

    A thread of its own reads them: a Python handler would wait for the main thread, which may wait for ever for a
    rank that is dead.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    def listen() -> None:
        while numbers := os.read(reader, 16):
            for number in numbers:
                if number in SIGNALS:
                    request.note(signal.Signals(number))

    # The pipe gets the number of every signal that has a Python handler; the handlers themselves do nothing.
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    other_pipe = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    listener = threading.Thread(target=listen, name="stop-signals", daemon=True)
    listener.start()
    try:
        yield request
    finally:
        signal.set_wakeup_fd(other_pipe)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        listener.join()
        os.close(reader)


class StopAtSignal(TrainerCallback):
    """Stops all ranks after the same step, with a checkpoint, once any of them was asked to.

    Attributes:
        stopped_by: The signal that ended training before its last step, or None.
    """

    def __init__(self, request: StopRequest) -> None:
        self._request = request
        self._group: Any = None
        self.stopped_by: signal.Signals | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make ready for ranks to compare notes: on the CPU, so that no accelerator is waited for in each step."""
        if args.world_size > 1:
            on_cpu = "gloo" in str(distributed.get_backend())
            self._group = distributed.group.WORLD if on_cpu else distributed.new_group(backend="gloo")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask for a checkpoint and the end."""
        number = torch.tensor(int(self._request.signal or 0))
        if self._group is not None:
            distributed.all_reduce(number, op=distributed.ReduceOp.MAX, group=self._group)
        if number and state.global_step < state.max_steps:
            self.stopped_by = signal.Signals(int(number))
            control.should_log = control.should_save = control.should_training_stop = True
            say(f"{self.stopped_by.name}: stopped after step {state.global_step} of {state.max_steps}")
        return control
