"""Ask for a file or a part of it, and decide whether a connection that broke is tried again.

Rule book:

* if `RETRIES_WITHOUT_PROGRESS` connections in a row bring no new bytes, it is an error. Only bytes beyond the longest
  length so far are new, so this also ends with a server that makes the client start over again and again;
* a very slow connection counts as one that breaks and brings nothing new, because the client's own timeout accepts one
  byte now and then;
* a server that wants to be asked later is, if that is not too late.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from threading import Event

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from bundler.errors import HubError
from bundler.hub.connection.answers import DrippingError, open_answer, raise_refusal, wait_seconds, within
from bundler.hub.connection.endpoint import host_of
from bundler.hub.connection.transport import find_client

# How many connections in a row may break without bringing a new byte.
RETRIES_WITHOUT_PROGRESS = 4
# What a connection raises that may be tried again.
BROKEN = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError)
# A server that asks for more is not waited for.
_MOST_WAIT_SECONDS = 900.0
_RETRIED_STATUS_CODES = (408, 429, 500, 502, 503, 504)
# RFC 9110, section 14.4.
_CONTENT_RANGE = re.compile(r"bytes (?P<first>[0-9]+)-(?P<last>[0-9]+)/(?P<length>[0-9]+|\*)")


class StoppedError(Exception):
    """The download was told to stop (Ctrl-C, or another file failed); the bytes so far are kept."""


class _LaterError(httpx2.RemoteProtocolError):
    """A server wants to be asked later.

    Attributes:
        seconds: When.
    """

    def __init__(self, refusal: Exception, seconds: float) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.seconds = seconds


# For the content of files, and no questions.
open_content = partial(open_answer, find_client=find_client)


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a file is asked for.

    Attributes:
        url: The address.
        headers: Request headers, with the token.
        open_url: Asks for an address, as `open_content` does.
    """

    url: str
    headers: Mapping[str, str]
    open_url: Callable[..., AbstractContextManager[httpx2.Response]] = open_content

    @contextlib.contextmanager
    def ask(self, **more: str) -> Iterator[httpx2.Response]:
        """Ask, with more headers; yields the answer, of which nothing was read.

        Raises:
            NetworkError: It did not answer in time.
            httpx2.TransportError: It cannot be asked.
        """
        # Ask for no compression: a compressed answer has another length, and its ranges count compressed bytes.
        headers = {**self.headers, "Accept-Encoding": "identity", **more}
        timeout = httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        with ExitStack() as opened:
            yield within(
                lambda: opened.enter_context(self.open_url(self.url, headers=headers, timeout=timeout)),
                host=host_of(self.url),
            )

    def redirected(self, response: httpx2.Response) -> Address | None:
        """Return the address that a redirect led to; None if there was none.

        Its headers are those that the client sent there: without the token, if it is another origin.
        """
        if str(response.request.url) == self.url:
            return None
        apart = ("host", "range", "if-range", "accept-encoding", "connection")
        headers = {name: value for name, value in response.request.headers.items() if name.lower() not in apart}
        return Address(url=str(response.request.url), headers=headers, open_url=self.open_url)


@dataclass(frozen=True, kw_only=True)
class Control:
    """How downloads are stopped, and who hears of their bytes; shared by all of a fetch.

    Attributes:
        stop: When it is set, they end with `StoppedError`.
        on_progress: Called with the number of bytes that are now in the store, from the network or an earlier run;
            negative when bytes are thrown away. Called from several threads.
        on_received: Called with the number of bytes that came over the network; from several threads.
    """

    stop: Event = field(default_factory=Event)
    on_progress: Callable[[int], None] = lambda count: None
    on_received: Callable[[int], None] = lambda count: None


class Patience:
    """How often broken connections are tried again.

    Args:
        stop: When it is set, `wait` ends with `StoppedError`.
        have: How many bytes are there, or how far a part has come.
    """

    def __init__(self, stop: Event, have: int) -> None:
        self._stop = stop
        self._failures = 0
        self._reached = have

    def wait(self, error: Exception, have: int) -> None:
        """Wait until it is time for another try.

        Args:
            error: What broke the connection, one of `BROKEN`.
            have: How far it has come.

        Raises:
            StoppedError: `stop` was set.
            Exception: It is not tried again: `error`, or the refusal that it stands for.
        """
        is_new = have > self._reached and not isinstance(error, DrippingError)
        self._failures = 1 if is_new else self._failures + 1
        self._reached = max(self._reached, have)
        pause = min(2.0 ** (self._failures - 2), 8.0)
        if isinstance(error, _LaterError):
            if self._failures > RETRIES_WITHOUT_PROGRESS or error.seconds > _MOST_WAIT_SECONDS:
                raise error.refusal from None
            pause = max(pause, error.seconds)
        if self._failures > RETRIES_WITHOUT_PROGRESS:
            raise error
        if self._stop.wait(pause):
            raise StoppedError from None


def raise_final_refusal(response: httpx2.Response) -> None:
    """Raise if an answer is a refusal, of which nothing was read yet: what `Patience` waits for, or what is final.

    Raises:
        httpx2.RemoteProtocolError: The server may be asked later.
        HfHubHTTPError: It refused.
        HubError: It answered with what is no file, such as a redirect to an address that cannot be read.
    """
    try:
        raise_refusal(response)
    except HfHubHTTPError as error:
        if response.status_code not in _RETRIED_STATUS_CODES:
            raise
        raise _LaterError(error, wait_seconds(response.headers, default=0.0)) from error
    if response.status_code not in (200, 206):
        raise HubError(
            f"{host_of(str(response.url))} answered {response.status_code} and no file; expected 200 or 206",
            hint="a proxy or mirror in between may be changing answers: try again without it",
        )


def content_range(response: httpx2.Response) -> tuple[int, str] | None:
    """Return the first byte of a partial answer and the length that the whole is said to have; None of another."""
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return (int(found["first"]), found["length"]) if found and response.status_code == 206 else None
