"""How often what broke is tried again, and which refusals are worth asking again after."""

from __future__ import annotations

import http.client
import socket
import ssl
import time

from bundler.errors import RemoteError
from bundler.remote.address import show
from bundler.remote.http.answer import LEAST_BYTES_PER_SECOND, Answer
from bundler.remote.http.client import explain_broken
from bundler.remote.waiting import note

# Waits before the tries that follow one without a new byte; after the last the failure is final.
PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0, 10.0)
# What a server may ask for in all, without something new in between.
_MOST_WAIT_SECONDS = 120.0
# Something new: less than this counts as nothing, else a byte for each try would go on for ever.
_WORTH_BYTES = 64 << 10
_LATER = (408, 425, 429, 500, 502, 503, 504)


class LaterError(OSError):
    """A server wants to be asked later.

    Attributes:
        refusal: What it says otherwise.
        seconds: When; 0 if it does not say.
    """

    def __init__(self, refusal: RemoteError, seconds: float) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.seconds = seconds


class Patience:
    """Counts failures in a row that brought next to nothing: too little, or too slowly."""

    def __init__(self) -> None:
        self._reached = 0
        self._begin_anew()

    def wait(self, error: Exception, have: int, url: str) -> None:
        """Wait until it is time for another try, and say so where that takes long.

        Args:
            error: What broke, one of `BROKEN`.
            have: How many bytes there are by now.
            url: What was asked.

        Raises:
            NetworkError: It broke too often.
            RemoteError: The server refused too often, or wants too much time.
        """
        new = have - self._reached
        if new >= _WORTH_BYTES and new >= LEAST_BYTES_PER_SECOND * (time.monotonic() - self._since):
            self._reached = have
            self._begin_anew()
        seconds = error.seconds if isinstance(error, LaterError) else 0.0
        if self._failures >= _most_failures(error) or self._asked_seconds + seconds > _MOST_WAIT_SECONDS:
            raise (error.refusal if isinstance(error, LaterError) else explain_broken(error, url)) from error
        self._asked_seconds += seconds
        seconds = max(PAUSES_SECONDS[self._failures], seconds)
        self._failures += 1
        if seconds >= 1 or isinstance(error, TimeoutError):
            what = error.refusal if isinstance(error, LaterError) else explain_broken(error, url)
            note(f"{what.message}; it is asked again" + (f" in {seconds:.0f} s" if seconds >= 1 else ""))
        time.sleep(seconds)

    def _begin_anew(self) -> None:
        self._failures = 0
        self._asked_seconds = 0.0
        self._since = time.monotonic()


def _most_failures(error: Exception) -> int:
    """Return after how many tries what broke is final: some of it does not get better by waiting."""
    if isinstance(error, ssl.SSLCertVerificationError | http.client.InvalidURL):
        return 0
    if isinstance(error, socket.gaierror | ConnectionRefusedError):
        return 2  # A server that is just being started again.
    if isinstance(error, TimeoutError):
        return min(2, len(PAUSES_SECONDS))  # Each has taken a minute.
    return len(PAUSES_SECONDS)


def raise_refusal(answer: Answer, label: str) -> None:
    """Raise if an answer is a refusal.

    Raises:
        LaterError: It may be asked again.
        RemoteError: It is final.
    """
    status = answer.status
    if status < 400:
        return
    hints = {
        401: "log in: `docker login` or `podman login` for a registry, ~/.netrc for a web server",
        403: "this login may not read or write it: ask who runs the server",
        404: "check the address: there is nothing there, or nothing that this login may see",
        407: "the proxy wants a login: write it into the variable, http://USER:PASSWORD@HOST:PORT",
    }
    where = "" if show(answer.url).startswith(label) else f" (asked {show(answer.url)})"
    refusal = RemoteError(f"{label}: the server answered {status}{where}", hint=hints.get(status), status=status)
    if status not in _LATER:
        raise refusal
    after = answer.header("Retry-After")
    raise LaterError(refusal, float(after) if after.isdecimal() else 0.0)
