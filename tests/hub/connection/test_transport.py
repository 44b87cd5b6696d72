"""Content of files over the lean transport: the same as over httpx2's, whatever a server does."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils import _http, get_session

from bundler.hub.connection.transport import LeanTransport, find_client
from tests.support.network.listener import free_port, listener, tls_listener

CONTENT = bytes(range(256)) * 4096  # more than a block
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT


@contextmanager
def server(*connections: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield an address, and the heads of requests to it; each connection gives its answers, then it is closed."""
    left, heads = list(connections), []

    def serve(connection: socket.socket) -> None:
        for answer in left.pop(0):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (piece := connection.recv(4096)):
                    return
                head += piece
            heads.append(head)
            connection.sendall(answer)

    with listener(serve) as port:
        yield f"http://127.0.0.1:{port}", heads


def ask(client: httpx2.Client, url: str, **headers: str) -> tuple[int, bytes]:
    with client.stream("GET", url, headers=headers) as response:
        return response.status_code, b"".join(bytes(block) for block in response.iter_raw())


@pytest.fixture
def lean() -> Iterator[httpx2.Client]:
    with httpx2.Client(transport=LeanTransport(), timeout=5) as client:
        yield client


def test_content_comes_whole_and_its_connection_is_used_again(lean: httpx2.Client) -> None:
    short = b'HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nETag: "x"\r\n\r\nabc'
    with server([WHOLE, short, b"HTTP/1.1 204 No Content\r\n\r\n", WHOLE]) as (url, heads):
        assert ask(lean, f"{url}/a%20b?c=d", Range="bytes=1-") == (200, CONTENT)
        assert ask(lean, url) == (206, b"abc")
        assert ask(lean, url) == (204, b"")
        assert ask(lean, url) == (200, CONTENT)
    assert heads[0].startswith(b"GET /a%20b?c=d HTTP/1.1\r\n")
    assert b"\r\nRange: bytes=1-\r\n" in heads[0] and heads[0].count(b"\r\nHost: ") == 1


def test_what_a_server_closed_meanwhile_is_asked_anew(lean: httpx2.Client) -> None:
    with server([WHOLE], [WHOLE]) as (url, heads):
        assert ask(lean, url) == ask(lean, url) == (200, CONTENT)
    assert len(heads) == 2


def test_an_answer_that_was_not_read_to_its_end_gives_no_connection_back(lean: httpx2.Client) -> None:
    with server([WHOLE], [WHOLE]) as (url, _):
        with lean.stream("GET", url) as response:
            assert response.headers["Content-Length"] == str(len(CONTENT))
        assert ask(lean, url) == (200, CONTENT)


def test_chunks_and_what_ends_with_the_connection_come_as_they_are(lean: httpx2.Client) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    until_closed = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nthe rest"
    with server([chunked, until_closed], [chunked]) as (url, _):
        assert ask(lean, url) == (200, b"abcde")
        assert ask(lean, url) == (200, b"the rest")
        assert ask(lean, url) == (200, b"abcde")


@pytest.mark.parametrize(
    "answer",
    [WHOLE[:-5], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"],
    ids=["length", "chunks"],
)
def test_what_arrived_before_an_early_end_counts(lean: httpx2.Client, answer: bytes) -> None:
    received = b""
    with (
        server([answer]) as (url, _),
        lean.stream("GET", url) as response,
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        for block in response.iter_raw():
            received += block
    assert received and answer.endswith(received)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", httpx2.RemoteProtocolError),
        (b"SSH-2.0-server\r\n\r\n", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + WHOLE, httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, httpx2.RemoteProtocolError),
    ],
    ids=["nothing", "no HTTP", "hints", "a line without end"],
)
def test_what_is_no_answer_is_an_error(
    lean: httpx2.Client, answer: bytes, expected: type[httpx2.TransportError]
) -> None:
    with server([answer]) as (url, _), pytest.raises(expected):
        ask(lean, url)


def test_silence_ends_with_the_time_that_was_given() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        httpx2.Client(transport=LeanTransport(), timeout=0.1) as client,
        pytest.raises(httpx2.ReadTimeout),
    ):
        ask(client, f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_nobody_there_is_a_failure_to_connect(lean: httpx2.Client) -> None:
    with pytest.raises(httpx2.ConnectError, match="refused"):
        ask(lean, f"http://127.0.0.1:{free_port()}")


def test_a_header_that_may_not_be_sent_is_not(lean: httpx2.Client) -> None:
    with server([]) as (url, heads), pytest.raises(httpx2.LocalProtocolError):
        ask(lean, url, Authorization="Bearer a\r\nX: b")
    assert heads == []


def test_nothing_but_get_of_web_addresses_is_sent(lean: httpx2.Client) -> None:
    for method, url in (("POST", "http://127.0.0.1:9"), ("GET", "ftp://127.0.0.1")):
        with pytest.raises(httpx2.UnsupportedProtocol):
            lean.request(method, url)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")
def test_certificates_are_those_that_httpx2_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_listener(tmp_path, WHOLE) as port:
        url = f"https://localhost:{port}"
        with httpx2.Client(transport=LeanTransport()) as client, pytest.raises(httpx2.ConnectError) as caught:
            ask(client, url)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError | httpx2.ConnectError)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        with httpx2.Client(transport=LeanTransport()) as client:
            assert ask(client, url) == (200, CONTENT)


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
    return monkeypatch


def test_through_a_proxy_the_session_asks(no_proxies: pytest.MonkeyPatch) -> None:
    assert find_client("https://hub.example/a") is not get_session()
    no_proxies.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    no_proxies.setenv("NO_PROXY", "near.example")
    assert find_client("https://hub.example/a") is get_session()
    assert find_client("https://near.example/a") is not get_session()


def test_a_client_of_the_users_own_asks(no_proxies: pytest.MonkeyPatch) -> None:
    theirs: Callable[[], httpx2.Client] = httpx2.Client
    set_client_factory(theirs)
    try:
        assert find_client("https://hub.example/a") is get_session()
    finally:
        set_client_factory(_http.default_client_factory)
    assert find_client("https://hub.example/a") is not get_session()


def test_nothing_is_sent_while_the_hub_is_off(no_proxies: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    no_proxies.setattr(constants, "HF_HUB_OFFLINE", True)
    with server([WHOLE]) as (url, heads), pytest.raises(OfflineModeIsEnabled):
        ask(find_client(url), url)
    assert heads == []


@pytest.mark.parametrize(
    ("first", "repeated"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", b"a: b\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a" * 10_000),
    ],
    ids=["heads", "trailers", "a trailer"],
)
def test_what_has_no_content_and_never_ends_is_an_error(
    lean: httpx2.Client, first: bytes, repeated: bytes
) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        with contextlib.suppress(OSError):
            connection.sendall(first)
            while True:
                connection.sendall(repeated)

    with listener(serve) as port, pytest.raises(httpx2.RemoteProtocolError):
        ask(lean, f"http://127.0.0.1:{port}")


def test_headers_may_have_bytes_that_are_no_ascii(lean: httpx2.Client) -> None:
    head = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Disposition: inline; filename="é"\r\n\r\n'
    with server([head.encode() + b"ab"]) as (url, _), lean.stream("GET", url) as response:
        assert response.headers["Content-Disposition"] == 'inline; filename="é"'
        assert response.read() == b"ab"
