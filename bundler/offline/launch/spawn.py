"""Start a child process that puts an isolation on itself between fork and exec, while its parent takes part.

`subprocess.Popen` does not return before the child executes its program, and so leaves no time for a parent that
must fetch the descriptor of the child's filter. Apart from that moment a child started here is one of Popen's.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bundler.errors import BundleError, OfflineError
from bundler.offline.held_fork import fork_held, release
from bundler.offline.launch.inherited import close_inherited_sockets
from bundler.offline.sandbox.family import end_family


class CommandNotFoundError(BundleError):
    """The command to run does not exist."""

    exit_code = 127


class CommandNotExecutableError(BundleError):
    """The command to run exists and cannot be executed."""

    exit_code = 126


@dataclass(frozen=True, kw_only=True)
class Streams:
    """Files for descriptors 0, 1 and 2 of a child: a file, a descriptor, `subprocess.DEVNULL`, or None for ours."""

    stdin: int | IO[bytes] | None = None
    stdout: int | IO[bytes] | None = None
    stderr: int | IO[bytes] | None = None


def start(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    prepare: Callable[[], None],
    meanwhile: Callable[[int], None],
    cwd: Path | None = None,
    streams: Streams | None = None,
) -> int:
    """Start a command and return its process id, once it executes.

    Args:
        argv: Command and arguments.
        env: Its whole environment.
        prepare: What the child does before it becomes the command.
        meanwhile: What the parent does at that time, with the child's process id. `prepare` may wait for it.
        cwd: Its working directory.
        streams: Its standard streams.

    Raises:
        OfflineError: `prepare` or `meanwhile` failed; there is no child then.
        CommandNotFoundError: There is no such command.
        CommandNotExecutableError: It cannot be executed.
    """
    reader, writer = os.pipe()
    # Not safe beside threads (one may hold a lock): callers have none at work.
    child, held = fork_held()
    if child == 0:
        step = "prepare"
        try:
            release(held)
            os.close(reader)
            if cwd is not None:
                os.chdir(cwd)
            _hand_descriptors_on(streams or Streams())
            # Python ignores these two; a command expects them as they are by default.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            prepare()
            step = "execute"
            os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606 -- no shell is the point
        except BaseException as error:
            number = error.errno if isinstance(error, OSError) else None
            with contextlib.suppress(OSError):
                os.write(writer, json.dumps([step, number, (str(error) or repr(error))[:1000]]).encode())
        finally:
            # No clean-up of a forked copy may run: buffers would be written twice.
            os._exit(255)
    os.close(writer)
    try:
        release(held)
        failure, message = _take_part(child, meanwhile, reader)
    except BaseException:
        # Interrupted: nobody would wait for it.
        _end(child)
        raise
    if not message and failure is None:
        return child
    _end(child)
    raise _error(argv[0], message, failure) from failure


def _take_part(child: int, meanwhile: Callable[[int], None], reader: int) -> tuple[OSError | None, bytes]:
    """Return what went wrong here, and what the child says that went wrong there; nothing once it executes."""
    failure = None
    try:
        meanwhile(child)
    except OSError as error:
        failure = error
    with os.fdopen(reader, "rb") as stream:
        return failure, stream.read()


def _end(child: int) -> None:
    end_family(child)
    os.waitpid(child, 0)


def _error(command: str, message: bytes, failure: BaseException | None) -> BundleError:
    step, number, text = json.loads(message) if message else ("prepare", None, str(failure))
    if step == "execute" and number in (errno.ENOENT, errno.ENOTDIR):
        return CommandNotFoundError(f"{command}: command not found")
    if step == "execute":
        return CommandNotExecutableError(
            f"{command}: cannot be executed: {os.strerror(number) if number else text}"
        )
    return OfflineError(
        f"{command}: the isolation that worked a moment ago failed for the command ({text})",
        hint="try again; `bundle run --isolate none` leaves it to the guard inside Python",
    )


def _hand_descriptors_on(streams: Streams) -> None:
    # Copies first: what is meant for one of the three may stand at another's place.
    wanted = {
        number: os.dup(_descriptor(stream))
        for number, stream in enumerate((streams.stdin, streams.stdout, streams.stderr))
        if stream is not None
    }
    for number, descriptor in wanted.items():
        os.dup2(descriptor, number, inheritable=True)
    close_inherited_sockets()


def _descriptor(stream: int | IO[bytes]) -> int:
    # Whoever gives one has loaded this.
    import subprocess

    if stream == subprocess.DEVNULL:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    return stream if isinstance(stream, int) else stream.fileno()
