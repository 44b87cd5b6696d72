"""Answers that the kernel sends from the page cache; real sockets on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bundler.serve.page_sender import PageSender, StalledError, can_send_pages
from bundler.serve.responses import BLOCK_BYTES
from tests.serve.conftest import write_tree
from tests.serve.test_unfriendly_clients import connect, read_all, serving

# Much more than the buffers of both ends hold.
SIZE_BYTES = 16 << 20
CONTENT = os.urandom(1 << 20) * (SIZE_BYTES >> 20)

Sending = Callable[[PageSender, int], Awaitable[None]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


@contextmanager
def sending(
    path: Path, send: Sending, *, patience: float = 20, receive_bytes: int = 1 << 20
) -> Iterator[socket.socket]:
    """Give `send` a connection and an open file; yield the client's end, and check that `send` has ended."""
    ended: list[BaseException | None] = []

    async def serve(listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        made, _ = await loop.sock_accept(listener)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, made)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            await send(PageSender(transport, patience), descriptor)
        except StalledError as error:
            ended.append(error)
        else:
            ended.append(None)
        finally:
            os.close(descriptor)
            transport.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(serve(listener)))
        thread.start()
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.connect(listener.getsockname())
        with client:
            yield client
        thread.join(30)
    assert ended, "it waits for something that does not come"
    if ended[0] is not None:
        raise ended[0]


def test_any_span_arrives(file: Path) -> None:
    start, end = 12_345, SIZE_BYTES - 999

    async def send(pages: PageSender, descriptor: int) -> None:
        assert await pages.send(descriptor, start, end, lambda: True) == end

    with sending(file, send) as client:
        assert read_all(client) == CONTENT[start:end]


def test_what_the_transport_still_has_to_write_goes_first(file: Path) -> None:
    before = os.urandom(8 << 20)

    async def send(pages: PageSender, descriptor: int) -> None:
        pages._transport.write(before)
        assert pages._transport.get_write_buffer_size()
        await pages.send(descriptor, 0, 1 << 20, lambda: True)

    with sending(file, send) as client:
        assert read_all(client) == before + CONTENT[: 1 << 20]


def test_a_file_that_ends_before_is_told(file: Path) -> None:
    async def send(pages: PageSender, descriptor: int) -> None:
        assert await pages.send(descriptor, SIZE_BYTES - 10, SIZE_BYTES + 10, lambda: True) == SIZE_BYTES

    with sending(file, send) as client:
        assert read_all(client) == CONTENT[-10:]


def test_a_file_that_has_changed_is_not_sent_on(file: Path) -> None:
    answers = iter([True, True, False])

    async def send(pages: PageSender, descriptor: int) -> None:
        assert await pages.send(descriptor, 0, SIZE_BYTES, lambda: next(answers)) < SIZE_BYTES

    with sending(file, send, receive_bytes=4096) as client:
        assert len(read_all(client)) < SIZE_BYTES


def test_it_settles_when_the_client_has_all_and_not_before(file: Path) -> None:
    is_settled = threading.Event()
    is_sent = threading.Event()

    async def send(pages: PageSender, descriptor: int) -> None:
        # As much as the socket's buffer holds.
        await pages.send(descriptor, 0, 1 << 20, lambda: True)
        copied = b"copied" * 1000
        pages._transport.write(copied)
        is_sent.set()
        await pages.settle(len(copied))
        is_settled.set()

    with sending(file, send, receive_bytes=4096) as client:
        assert is_sent.wait(20)
        assert not is_settled.wait(0.2)
        assert len(read_all(client)) == (1 << 20) + 6000
        assert is_settled.is_set()


@pytest.mark.parametrize("size_bytes", [1 << 20, SIZE_BYTES])
def test_a_client_that_takes_nothing_is_not_waited_for(file: Path, size_bytes: int) -> None:
    async def send(pages: PageSender, descriptor: int) -> None:
        await pages.send(descriptor, 0, size_bytes, lambda: True)
        await pages.settle(0)

    with pytest.raises(StalledError), sending(file, send, patience=0.2, receive_bytes=4096) as client:
        threading.Event().wait(1)
        client.recv(1)


@pytest.mark.parametrize("size_bytes", [1 << 20, SIZE_BYTES])
def test_a_client_that_goes_away_is_noticed(file: Path, size_bytes: int) -> None:
    async def send(pages: PageSender, descriptor: int) -> None:
        await pages.send(descriptor, 0, size_bytes, lambda: True)
        await pages.settle(0)

    with pytest.raises(StalledError), sending(file, send) as client:
        client.recv(100)
        client.close()


def test_the_kernel_cannot_encrypt() -> None:
    transport = asyncio.Transport({"sslcontext": ssl.create_default_context()})
    assert can_send_pages(asyncio.Transport({})) and not can_send_pages(transport)


REQUEST = "GET /org/m/resolve/main/large.bin HTTP/1.1\r\nHost: localhost\r\n"
LAST_REQUEST = f"{REQUEST}Range: bytes=7-9\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("repos"), {"org/m/large.bin": CONTENT})


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("", 0, SIZE_BYTES),
        (f"Range: bytes=1000-{SIZE_BYTES - 1001}\r\n", 1000, SIZE_BYTES - 1000),
        (f"Range: bytes=5-{4 * BLOCK_BYTES + 4}\r\n", 5, 4 * BLOCK_BYTES + 5),
        (f"Range: bytes=5-{4 * BLOCK_BYTES + 3}\r\n", 5, 4 * BLOCK_BYTES + 4),
    ],
)
def test_a_long_answer_is_whole_and_the_connection_goes_on(repos: Path, asked: str, start: int, end: int) -> None:
    with serving(repos) as endpoint, closing(connect(endpoint, f"{REQUEST}{asked}\r\n{LAST_REQUEST}")) as made:
        _, answer = read_all(made).split(b"\r\n\r\n", 1)
    assert answer[: end - start] == CONTENT[start:end]
    assert answer[end - start :].startswith(b"HTTP/1.1 206") and answer.endswith(CONTENT[7:10])


def test_a_file_that_is_written_to_while_it_waits_to_be_sent_is_cut_short(tmp_path: Path) -> None:
    # All of it has room in the socket's buffers: a server that does not wait is done with it at once.
    block, size_bytes = 16 << 10, 64 << 10
    repos = write_tree(tmp_path, {"org/m/large.bin": CONTENT[:size_bytes]})
    with (
        serving(repos, block_bytes=block) as endpoint,
        closing(connect(endpoint, f"{REQUEST}Connection: close\r\n\r\n", receive_bytes=4096)) as made,
    ):
        received = made.recv(100)
        _wait_until_quiet(endpoint)
        with (repos / "org/m/large.bin").open("r+b") as stream:
            stream.seek(block)
            stream.write(b"another content" * 500)
        received += read_all(made)
    assert b"another content" in received  # else this test shows nothing
    assert len(received.split(b"\r\n\r\n", 1)[1]) < size_bytes


def _wait_until_quiet(endpoint: str) -> None:
    """Wait until the server writes no more to its connections, by the kernel's table."""
    port, queued, since = f":{int(endpoint.rpartition(':')[2]):04X}", "", time.monotonic()
    while time.monotonic() - since < 0.3:
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        found = "".join(row[4] for row in rows if row[1].endswith(port))
        if found != queued:
            queued, since = found, time.monotonic()
        time.sleep(0.01)
