"""End a run on a signal: write a checkpoint after the present step, and exit with a code that asks to resume.

Rule book:

* SIGTERM, SIGUSR1 (which schedulers send before they kill) and SIGINT (Ctrl-C) ask to stop. Ranks exchange this at the
  end of each step, so all stop after the same step, whichever rank gets the signal;
* one request often arrives more than once: a launcher, such as `timeout` or `scancel --full`, passes on a signal that
  the whole process group got already. Signals within `REPEAT_SECONDS` count as one request;
* a later signal ends the process at once. Only steps are lost: a checkpoint is published by one rename;
* a stopped run writes a note in its folder (`infini_llama.run_folder.stopped`), because launchers such as torchrun end
  with exit codes of their own.
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
from infini_llama.train.distribution import check_same_step

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
REPEAT_SECONDS = 1.0


class StopRequest:
    """The request to stop that signals have made to this process.

    Attributes:
        signal: The first signal; None if there was none.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0

    def note(self, received: signal.Signals) -> None:
        """Record a signal; at the second request, end the process and do not return."""
        if self.signal is None:
            self.signal, self._since = received, time.monotonic()
            os.write(2, f"{received.name}: stopping after this step, with a checkpoint\n".encode())
        elif time.monotonic() - self._since >= REPEAT_SECONDS:
            os.write(2, f"{received.name} again: stopping at once; the last checkpoint stays as it is\n".encode())
            os._exit(128 + received)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Treat `SIGNALS` as requests to stop while the block runs; do nothing outside the main thread.

    Python allows signal handlers only in the main thread. A separate thread reads the signals: a handler would run in
    the main thread, which may wait for ever for a dead rank.
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

    # Python writes the number of every signal that has a handler to the pipe; the handlers themselves do nothing.
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
    """Stops all ranks after the same step, with a checkpoint, when any of them was asked to stop.

    Attributes:
        stopped_by: The signal that ended the training before its last step; None if there was none.
    """

    def __init__(self, request: StopRequest) -> None:
        self._request = request
        self._group: Any = None
        self.stopped_by: signal.Signals | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make a process group on the CPU for exchanging requests, so that a step need not wait for an accelerator.

        Raises:
            UsageError: Ranks go on from different checkpoints.
        """
        if args.world_size > 1:
            on_cpu = "gloo" in str(distributed.get_backend())
            self._group = distributed.group.WORLD if on_cpu else distributed.new_group(backend="gloo")
            check_same_step(state.global_step, self._group)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """If a rank was asked to stop, ask the trainer for a checkpoint and the end."""
        number = torch.tensor(int(self._request.signal or 0))
        if self._group is not None:
            distributed.all_reduce(number, op=distributed.ReduceOp.MAX, group=self._group)
        if number and state.global_step < state.max_steps:
            self.stopped_by = signal.Signals(int(number))
            control.should_log = control.should_save = control.should_training_stop = True
            say(f"{self.stopped_by.name}: stopped after step {state.global_step} of {state.max_steps}")
        return control
