"""Find out whether a server can be reached, with one try and within seconds, whatever the network does.

The Hugging Face libraries retry for almost a minute, and then name neither the network nor what to do.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

# Less than the five seconds that we promise: the start of the process counts too.
PROBE_SECONDS = 3.0
_GRACE_SECONDS = 0.5


def ask_within(ask: Callable[[], str | None], timeout_seconds: float) -> str | None:
    """Return the result of `ask`, or a message if it takes longer than `timeout_seconds`."""
    outcome: list[str | None] = []
    # Run it in a thread: a name look-up has no time limit, and an answer may come one byte at a time.
    thread = threading.Thread(target=lambda: outcome.append(ask()), name="probe", daemon=True)
    thread.start()
    thread.join(timeout_seconds + _GRACE_SECONDS)
    return outcome[0] if outcome else f"did not answer within {timeout_seconds:g} s"


def find_reach_fault(address: str) -> str | None:
    """Return why the server at an address accepts no connection, as the end of a sentence; None if it does.

    Args:
        address: Address of a web server (see `bundler.hub.connection.endpoint.address_fault`). No proxy is used.
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
