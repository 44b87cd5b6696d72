"""Take an answer of a Hub within a time and a size, whatever it sends.

Rule book:

* a request that is not answered whole in `MOST_SECONDS` is given up; so is one that drips, and one that is longer than
  what is asked for can be;
* bytes are counted as they come out of decompression, and no block of it grows past `BLOCK_BYTES`. Compressed forms
  that were not asked for are refused: some grow by a factor of ten thousand;
* what a refusal says is cut to a few lines, and read only where it has the form that the Hub's have;
* what should be JSON of some shape is looked at before it is used.

SECURITY.md has the figures.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx2
from huggingface_hub.utils import get_session, hf_raise_for_status, parse_ratelimit_headers

from bundler.errors import BundleError, HubError, NetworkError

ACCEPTED = "gzip, identity"
MOST_ANSWER_BYTES = 32 << 20
MOST_SECONDS = 60.0
# What a connection must bring, looked at when it was waited for that long.
LEAST_BYTES_PER_SECOND = 1000
WATCHED_SECONDS = 15.0
BLOCK_BYTES = 1 << 20
_MOST_REDIRECTS = 20
# A line of text; more costs more time than a new connection.
_MOST_REDIRECT_BYTES = 4 << 10
MOST_REFUSAL_BYTES = 64 << 10
_MOST_REFUSAL_CHARACTERS = 500

_Result = TypeVar("_Result")


@contextlib.contextmanager
def open_answer(
    url: str,
    *,
    headers: dict[str, str],
    timeout: httpx2.Timeout,
    params: dict[str, str] | None = None,
    find_client: Callable[[str], httpx2.Client] = lambda address: get_session(),
) -> Iterator[httpx2.Response]:
    """Ask for `url` and yield the answer, of which nothing was read, after following redirects.

    The client's own following would read what stands below a redirect, whatever its length.

    Args:
        url: The address.
        headers: Request headers.
        timeout: For connecting, and for each part of an answer.
        params: The address's query.
        find_client: Returns who asks an address, for each on the way; by default huggingface_hub's session.

    Raises:
        httpx2.HTTPError: The server cannot be asked, or redirects for ever.
    """
    request = find_client(url).build_request("GET", url, params=params, headers=headers, timeout=timeout)
    for _ in range(_MOST_REDIRECTS):
        response = find_client(str(request.url)).send(request, stream=True, follow_redirects=False)
        try:
            if response.next_request is None:
                yield response
                return
            request = response.next_request
            _read_short_rest(response)
        finally:
            response.close()
    raise httpx2.TooManyRedirects(f"more than {_MOST_REDIRECTS} redirects", request=request)


def _read_short_rest(response: httpx2.Response) -> None:
    """Read what stands below a redirect, if it is short, so that the connection can be used again."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) <= _MOST_REDIRECT_BYTES:
        for _ in response.iter_raw():
            pass


class DrippingError(httpx2.RemoteProtocolError):
    """A connection brings next to nothing."""


def within(action: Callable[[], _Result], *, seconds: float = MOST_SECONDS, host: str) -> _Result:
    """Return what `action` returns.

    Args:
        action: Something that waits for the network; it runs in a thread, which is left behind where it is too late.
        seconds: How long that may take.
        host: Whom it waits for.

    Raises:
        NetworkError: It took longer.
        Exception: What `action` raises.
    """
    done = threading.Event()
    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)
        done.set()

    threading.Thread(target=run, daemon=True, name="bundle-request").start()
    if not done.wait(seconds):
        raise NetworkError(
            f"{host} did not finish its answer within {seconds:.0f} s",
            hint="try again, or over another line or mirror (HF_ENDPOINT)",
        )
    if errors:
        raise errors[0]
    return results[0]


def read_whole(response: httpx2.Response, most_bytes: int, *, cut: bool = False) -> httpx2.Response:
    """Read a streamed answer and return it with its content.

    Args:
        response: The answer, of which nothing was read yet.
        most_bytes: The most that it may hold.
        cut: Keep the first `most_bytes` of a longer one, in place of an error.

    Raises:
        HubError: It is longer, or compressed in a way that was not asked for.
        httpx2.HTTPError: The connection broke or drips, or the compressed form is damaged.
    """
    content = bytearray()
    for block in not_dripping(decoded_blocks(response)):
        content += block
        if len(content) > most_bytes:
            if not cut:
                raise HubError(
                    f"{response.url.host} answered with more than {most_bytes:,} bytes, more than there can be",
                    hint="is this the address of a Hub? check HF_ENDPOINT",
                )
            break
    return _with_content(response, bytes(content[:most_bytes]))


def raise_refusal(response: httpx2.Response) -> None:
    """Raise what huggingface_hub raises for an answer that is a refusal, of which nothing was read yet.

    Raises:
        HfHubHTTPError: It is one.
    """
    if response.status_code < 400:
        return
    said: Any = None
    try:
        read = read_whole(response, MOST_REFUSAL_BYTES, cut=True)
        said = json.loads(read.content).get("error")
    except (ValueError, AttributeError, RecursionError, httpx2.HTTPError, BundleError):
        pass
    # Its own reading of the answer is for answers of a Hub that means well.
    body = {"error": said[:_MOST_REFUSAL_CHARACTERS]} if isinstance(said, str) else {}
    hf_raise_for_status(_with_content(response, json.dumps(body).encode()))


def decoded_blocks(response: httpx2.Response) -> Iterator[bytes]:
    """Yield the content of a streamed answer, decompressed where it is gzip.

    Raises:
        HubError: It is compressed in another way.
        httpx2.HTTPError: The connection broke, or the compressed form is damaged.
    """
    if response.is_stream_consumed:
        yield response.content
        return
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        yield from response.iter_raw()
        return
    if encoding not in ("gzip", "x-gzip"):
        raise HubError(
            f"{response.url.host} answered in the form {encoding[:40]!r}, which it was not asked for",
            hint="a proxy or mirror in between may be changing answers: try again without it",
        )
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    for block in response.iter_raw():
        if inflater.eof:
            raise httpx2.DecodingError("a gzip answer goes on behind its end", request=response.request)
        waiting = block
        while waiting and not inflater.eof:
            try:
                yield inflater.decompress(waiting, BLOCK_BYTES)
            except zlib.error as error:
                raise httpx2.DecodingError(f"a damaged gzip answer: {error}", request=response.request) from error
            waiting = inflater.unconsumed_tail
    if not inflater.eof:
        raise httpx2.RemoteProtocolError("the gzip answer ends early", request=response.request)


def not_dripping(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass on what a connection brings.

    Raises:
        DrippingError: It is next to nothing.
    """
    waited, received, before = 0.0, 0, time.monotonic()
    for block in blocks:
        waited += time.monotonic() - before
        received += len(block)
        if waited >= WATCHED_SECONDS:
            if received < LEAST_BYTES_PER_SECOND * waited:
                raise DrippingError(
                    f"it brought {received:,} bytes in {waited:.0f} s, expected {LEAST_BYTES_PER_SECOND:,} a second"
                )
            waited, received = 0.0, 0
        yield block
        # What others do with a block is no waiting for the network.
        before = time.monotonic()


def wait_seconds(headers: httpx2.Headers, *, default: float) -> float:
    """Read how long a server wants to be left alone (RFC 9110, section 10.2.3, and the RateLimit draft)."""
    after = headers.get("Retry-After", "").strip()
    try:
        limit = parse_ratelimit_headers(headers)
        if limit is not None and limit.remaining == 0:
            # The window is told in whole seconds.
            return float(limit.reset_in_seconds) + 1
        if after.isdecimal():
            return float(after)
        if after:
            return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        pass
    return default


def json_object(response: httpx2.Response) -> dict[str, Any]:
    """Return the JSON object that a Hub answers with.

    Raises:
        HubError: It is of another shape.
        json.JSONDecodeError: It is no JSON.
    """
    value = _json(response)
    if not isinstance(value, dict):
        raise _unexpected(response, "an object", value)
    return value


def json_rows(response: httpx2.Response) -> list[dict[str, Any]]:
    """Return the JSON list of objects that a Hub answers with.

    Raises:
        HubError: It is of another shape.
        json.JSONDecodeError: It is no JSON.
    """
    value = _json(response)
    if not isinstance(value, list):
        raise _unexpected(response, "a list", value)
    for row in value:
        if not isinstance(row, dict):
            raise _unexpected(response, "a list of objects", row)
    return value


def _json(response: httpx2.Response) -> Any:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError) as error:
        # What `bundler.hub.connection.failures` has words for.
        raise json.JSONDecodeError("no JSON", "", 0) from error


def _unexpected(response: httpx2.Response, expected: str, found: object) -> HubError:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return HubError(
        f"{response.url.host}: expected {expected} in its answer, found {names.get(type(found), 'a number')}",
        hint="is this the address of a Hub? check HF_ENDPOINT",
    )


def _with_content(response: httpx2.Response, content: bytes) -> httpx2.Response:
    apart = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in apart]
    return httpx2.Response(response.status_code, headers=headers, content=content, request=response.request)
