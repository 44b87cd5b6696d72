"""Standard output that cannot be written: the reader of the pipe is gone, or the device behind it is full.

`bundle list | head -1` is no failure of anybody: the command ends at once and quietly, with the exit code that a shell
shows for a program that SIGPIPE has ended. SIGPIPE itself stays ignored, as Python sets it: with its default action,
any connection that a Hub or a client closes would end the process without a word.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback

import click

from bundler.errors import OutputError

# What a shell shows for a program that SIGPIPE has ended.
READER_GONE = 128 + signal.SIGPIPE


def exit_code_of_failed_output(error: OSError | None = None) -> int | None:
    """Return what to exit with if standard output or error cannot be written, else None.

    Args:
        error: What a command ended with; None at its end, when only what is still in the buffers is looked at.
    """
    left = _flush()
    failure = error if error is not None and _is_of_echo(error) else left
    if failure is None:
        return None
    if isinstance(failure, BrokenPipeError):
        return READER_GONE
    with contextlib.suppress(OSError):
        click.echo(f"error: standard output cannot be written: {failure.strerror}", err=True)
    return OutputError.exit_code


def _flush() -> OSError | None:
    """Flush the standard streams, and send to nowhere what cannot be flushed.

    The interpreter flushes at its end too, and would change the exit code.
    """
    failure = None
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            failure = failure or error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return failure


def _is_of_echo(error: OSError) -> bool:
    """Tell whether an error comes from printing, by the one function that prints, and from no file or connection.

    Where Python was told not to buffer (PYTHONUNBUFFERED), the streams keep no trace of it themselves.
    """
    return any(frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))
