"""Standard output that cannot be written: the reader of the pipe has gone, or the disk is full.

`bundle list | head -1` is not an error: the command ends at once and prints nothing, with the exit code that a shell
shows for a program that SIGPIPE ended. The signal SIGPIPE itself stays ignored, as Python sets it: otherwise any
connection that a Hub or a client closes would end the process without a message.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import click

from bundler.errors import OutputError

# The exit code that a shell shows for a program that SIGPIPE ended.
READER_GONE = 128 + signal.SIGPIPE


def exit_code_of_failed_output(error: OSError | None = None) -> int | None:
    """Return the exit code if standard output or error cannot be written; else None.

    Args:
        error: The error that ended the command. None after a command that succeeded: then only flushing the buffers can
            fail.
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
    """Flush the standard streams; redirect a stream that cannot be flushed to the null device.

    Otherwise the interpreter would flush again at exit, fail, and change the exit code.
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
    """Return whether an error was raised by `click.echo`, and so is about printing and not about a file or connection.

    The streams themselves do not show it when Python does not buffer them (PYTHONUNBUFFERED).
    """
    import traceback  # rarely needed

    return any(frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))
