"""Whether a server can be reached at all: asked once, with an answer within seconds whatever the network does.

The Hugging Face libraries try for most of a minute, and then name neither the network nor what to do about it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

# The promise is five seconds, and a process has to start within them, too.
PROBE_SECONDS = 3.0
_GRACE_SECONDS = 0.5


def ask_within(ask: Callable[[], str | None], timeout_seconds: float) -> str | None:
    """Return what `ask` says is wrong, or that there was no answer in time."""
    outcome: list[str | None] = []
    # A look-up of a name has no time limit of its own, and an answer may come a byte at a time.
    thread = threading.Thread(target=lambda: outcome.append(ask()), name="probe", daemon=True)
    thread.start()
    thread.join(timeout_seconds + _GRACE_SECONDS)
    return outcome[0] if outcome else f"did not answer within {timeout_seconds:g} s"


def find_reach_fault(address: str) -> str | None:
    """Return why the server at an address takes no connection, to follow its name in a sentence; None if it does.

    Args:
        address: Of a web server (see `bundler.hub.connection.endpoint.address_fault`); no proxy is asked.
    """
    parts = urlsplit(address)
    target = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))

    def ask() -> str | None:
        try:
            socket.create_connection(target, timeout=PROBE_SECONDS).close()
        except TimeoutError:
            return f"did not answer within {PROBE_SECONDS:g} s"
        except OSError as error:
            return f"cannot be reached: {error.strerror or error}"
        return None

    return ask_within(ask, PROBE_SECONDS)
