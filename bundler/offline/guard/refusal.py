"""The error that a refusal is: the guard's own, and where that helps one of Python's and one of this package's too.

The guard loads this as it loads `caller`, when there is something to refuse: the standard library only.
"""

from __future__ import annotations

import errno
import socket
import sys

_LOOK_UPS = ("getaddrinfo", "gethostbyname")


def make_error(refused: type[BaseException], message: str, hint: str, event: str = "") -> BaseException:
    """Return an error to raise.

    Args:
        refused: The class of the guard's own errors.
        message: What was refused.
        hint: What to do.
        event: What Python was asked to do, where the error is to be what Python raises of it without a network.
    """
    bases: tuple[type, ...] = (refused,)
    if event:
        bases = (refused, socket.gaierror if event in _LOOK_UPS else OSError)
    own = {"__module__": refused.__module__}
    # A program that uses this package gets an error of its tree, with its exit code; nobody else pays the import.
    errors = sys.modules.get("bundler.errors")
    if errors is None:
        error = type("NetworkRefusedError", bases, own)(f"{message}\n  hint: {hint}")
    else:
        error = type("NetworkRefusedError", (errors.OfflineError, *bases), own)(message, hint=hint)
    if isinstance(error, OSError):
        # The numbers of what nobody can answer for now.
        error.errno = socket.EAI_AGAIN if isinstance(error, socket.gaierror) else errno.ENETUNREACH
    assert isinstance(error, BaseException)
    return error
