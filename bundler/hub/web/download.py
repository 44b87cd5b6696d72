"""Download a file whose length and hash nobody has told, and find both."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import httpx2

from bundler.errors import HubError
from bundler.files.digest import Digests, Hasher
from bundler.hub.connection.answers import decoded_blocks, not_dripping, wait_seconds, within
from bundler.hub.connection.endpoint import host_of
from bundler.hub.web.answer import HEADERS, MOST_FILE_BYTES, host_and_path, open_file, request_timeout, web_errors

_TRIES = 4
_RETRIED = (408, 429, 500, 502, 503, 504)
_MOST_WAIT_SECONDS = 60.0


def download(
    url: str, target: Path | None, *, plain_http: bool = False, most_bytes: int = MOST_FILE_BYTES
) -> Digests:
    """Download a file, from its first byte, as often as connections break, but `_TRIES` times at most.

    Args:
        url: An address that was checked.
        target: Where it goes; None to take the digests only.
        plain_http: As `open_file` takes it.
        most_bytes: The most that it may hold.

    Returns:
        Its length, SHA-256 and BLAKE3.

    Raises:
        HubError: The host refused, or the file is too long.
        NetworkError: It cannot be reached, or the connection broke too often.
        OSError: `target` cannot be written.
    """
    with web_errors(url):
        for left in reversed(range(_TRIES)):
            try:
                with contextlib.ExitStack() as opened:
                    sink = opened.enter_context(target.open("wb")) if target else None
                    return _read(url, sink, plain_http, most_bytes)
            except (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError):
                if not left:
                    raise
                time.sleep(0.5)
            except httpx2.HTTPStatusError as error:
                if not left or error.response.status_code not in _RETRIED:
                    raise
                time.sleep(min(wait_seconds(error.response.headers, default=0.5), _MOST_WAIT_SECONDS))
    raise AssertionError("the last try returns or raises")


def _read(url: str, sink: BinaryIO | None, plain_http: bool, most_bytes: int) -> Digests:
    hasher, length = Hasher(("sha256", "blake3"), size_bytes=0), 0
    for block in _blocks(url, plain_http):
        length += len(block)
        if length > most_bytes:
            raise HubError(f"{host_and_path(url)} answered with more than {most_bytes:,} bytes")
        hasher.update(block)
        if sink is not None:
            sink.write(block)
    return hasher.result()


def _blocks(url: str, plain_http: bool) -> Iterator[bytes]:
    with contextlib.ExitStack() as opened:
        answer = open_file(url, headers=HEADERS, timeout=request_timeout(), plain_http=plain_http)
        response = within(lambda: opened.enter_context(answer), host=host_of(url))
        response.raise_for_status()
        yield from not_dripping(decoded_blocks(response))
