"""Try an isolation on a forked child: whether it works here is known by nothing else."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from bundler.offline.held_fork import fork_held, release


def problem_with(enter: Callable[[], None], *, meanwhile: Callable[[int], None] | None = None) -> str | None:
    """Call `enter` in a forked child and return why it failed, or None.

    Args:
        enter: What to try.
        meanwhile: What the parent does at that time, with the child's process id.
    """
    if sys.platform != "linux":
        return f"{sys.platform} has none"
    reader, writer = os.pipe()
    child, held = fork_held()
    if child == 0:
        try:
            release(held)
            enter()
            os.write(writer, b"+")
        except OSError as error:
            os.write(writer, f"{error.filename}: {error.strerror}".encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            # No clean-up of a forked copy may run: buffers would be written twice.
            os._exit(0)
    os.close(writer)
    problem = None
    try:
        release(held)
        if meanwhile:
            meanwhile(child)
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}"
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as stream:
        message = stream.read()
    os.waitpid(child, 0)
    return problem if problem or message == b"+" else message.decode(errors="replace") or "the probe died"
