"""Run the command of a recording to its end, with its signals, and its connections seen where the system can.

Linux has the calls by which a launcher leaves no trace (`bundler.offline.launch`). Elsewhere the command is a plain
child: signals are passed on, and its connections are seen inside Python only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from bundler.draft.record.sockets import SocketUse, watch_sockets
from bundler.offline.launch.descendants import adopt_orphans
from bundler.offline.launch.signals import block_signals, pass_signals_on
from bundler.offline.launch.spawn import CommandNotExecutableError, CommandNotFoundError, start

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# A terminal sends these to the command itself.
_OF_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        exit_code: Its exit code; 128 + n if signal n ended it.
        sockets: Connections that the kernel saw, of any program.
        left: Processes that outlive it.
        why_blind: Why connections of compiled programs were not seen, or None.
    """

    exit_code: int
    sockets: tuple[SocketUse, ...] = ()
    left: tuple[str, ...] = ()
    why_blind: str | None = None


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> Ended:
    """Run a command to its end; to be called in the main thread.

    Raises:
        CommandNotFoundError: There is no such command.
        CommandNotExecutableError: It cannot be executed.
    """
    if sys.platform != "linux":
        code = _run_plainly(command, environment)
        return Ended(
            exit_code=128 - code if code < 0 else code,
            why_blind=f"connections of compiled programs were not seen: {sys.platform} has no seccomp",
        )
    with block_signals() as mask, adopt_orphans() as descendants, watch_sockets(mask) as seen:
        child = start(command, environment, prepare=seen.enter, meanwhile=seen.attach)
        code = os.waitstatus_to_exitcode(pass_signals_on(child))
        left = tuple(descendants.left_behind())
        return Ended(
            exit_code=128 - code if code < 0 else code, sockets=seen.finish(), left=left, why_blind=seen.why_not
        )


def _run_plainly(command: Sequence[str], environment: Mapping[str, str]) -> int:
    try:
        process = subprocess.Popen(list(command), env=dict(environment))
    except FileNotFoundError as error:
        raise CommandNotFoundError(f"{command[0]}: command not found") from error
    except OSError as error:
        raise CommandNotExecutableError(f"{command[0]}: cannot be executed: {error.strerror}") from error

    def pass_on(number: int, _: FrameType | None) -> None:
        process.send_signal(number)

    def leave(number: int, _: FrameType | None) -> None:
        """Let the command do with it what it likes."""

    previous = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    previous |= {number: signal.signal(number, leave) for number in _OF_TERMINAL}
    try:
        return process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
