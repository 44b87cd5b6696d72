"""Files that are sent past the application's messages; real sockets on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bundler.serve.file_sender import FileSender, StalledError, can_send_files
from bundler.serve.sources.files import DiskFile, FileContent, FileStamp
from tests.serve.conftest import write_tree
from tests.serve.test_unfriendly_clients import connect, read_all, serving

# Much more than the buffers of both ends hold.
SIZE_BYTES = 16 << 20
CONTENT = os.urandom(1 << 20) * (SIZE_BYTES >> 20)

Sending = Callable[[FileSender, FileContent], Awaitable[None]]


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
        content = DiskFile("content", str(path), FileStamp.of(path.stat())).open()
        try:
            await send(FileSender(transport, patience), content)
        except StalledError as error:
            ended.append(error)
        else:
            ended.append(None)
        finally:
            content.close()
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


@pytest.mark.parametrize(("start", "end"), [(0, SIZE_BYTES), (12_345, SIZE_BYTES - 999), (5, 6), (7, 7)])
def test_any_span_arrives(file: Path, start: int, end: int) -> None:
    async def send(files: FileSender, content: FileContent) -> None:
        assert await files.send(content, start, end) == end

    with sending(file, send) as client:
        assert read_all(client) == CONTENT[start:end]


def test_what_is_not_in_the_page_cache_is_read_by_a_thread(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    readers: set[int] = set()

    class Watched(FileContent):
        def read_into(self, room: memoryview, offset: int, *, may_wait: bool) -> int | None:
            count = super().read_into(room, offset, may_wait=may_wait)
            if count is not None:
                readers.add(threading.get_ident())
            return count

    async def send(files: FileSender, content: FileContent) -> None:
        content.__class__ = Watched
        assert await files.send(content, 0, SIZE_BYTES) == SIZE_BYTES

    with sending(file, send) as client:
        assert read_all(client) == CONTENT
    assert len(readers) > 1 or not _is_evictable(file)


def _is_evictable(path: Path) -> bool:
    """Tell whether the file system drops a file's pages when it is asked to; one in memory does not."""
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            return os.preadv(stream.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) < 1
        except OSError:
            return True


def test_what_the_transport_still_has_to_write_goes_first(file: Path) -> None:
    before = os.urandom(8 << 20)

    async def send(files: FileSender, content: FileContent) -> None:
        files._transport.write(before)
        assert files._transport.get_write_buffer_size()
        await files.send(content, 0, 1 << 20)

    with sending(file, send) as client:
        assert read_all(client) == before + CONTENT[: 1 << 20]


def test_a_file_that_ends_before_is_told(file: Path) -> None:
    async def send(files: FileSender, content: FileContent) -> None:
        assert await files.send(content, SIZE_BYTES - 10, SIZE_BYTES + 10) == SIZE_BYTES

    with sending(file, send) as client:
        assert read_all(client) == CONTENT[-10:]


def test_others_have_their_turn_beside_a_client_that_takes_all_at_once(file: Path) -> None:
    async def send(files: FileSender, content: FileContent) -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        for _ in range(4):
            await files.send(content, 0, SIZE_BYTES)
        counting.cancel()
        assert turns >= 4 * SIZE_BYTES // (2 << 20)

    with sending(file, send, receive_bytes=1 << 22) as client:
        assert len(read_all(client)) == 4 * SIZE_BYTES


def test_a_client_that_takes_nothing_is_not_waited_for(file: Path) -> None:
    async def send(files: FileSender, content: FileContent) -> None:
        await files.send(content, 0, SIZE_BYTES)

    with pytest.raises(StalledError), sending(file, send, patience=0.2, receive_bytes=4096) as client:
        threading.Event().wait(1)
        client.recv(1)


def test_a_client_that_goes_away_is_noticed(file: Path) -> None:
    async def send(files: FileSender, content: FileContent) -> None:
        await files.send(content, 0, SIZE_BYTES)

    with pytest.raises(StalledError), sending(file, send) as client:
        client.recv(100)
        client.close()


def test_a_socket_does_not_encrypt() -> None:
    transport = asyncio.Transport({"sslcontext": ssl.create_default_context()})
    assert can_send_files(asyncio.Transport({})) and not can_send_files(transport)


REQUEST = "GET /org/m/resolve/main/large.bin HTTP/1.1\r\nHost: localhost\r\n"
LAST_REQUEST = f"{REQUEST}Range: bytes=7-9\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("repos"), {"org/m/large.bin": CONTENT, "org/m/empty.bin": b""})


@pytest.mark.parametrize(("start", "end"), [(0, SIZE_BYTES), (1000, SIZE_BYTES - 1000), (5, 6)])
def test_an_answer_is_whole_and_the_connection_goes_on(repos: Path, start: int, end: int) -> None:
    asked = f"{REQUEST}Range: bytes={start}-{end - 1}\r\n\r\n"
    empty = f"{REQUEST.replace('large', 'empty')}\r\n"
    with serving(repos) as endpoint, closing(connect(endpoint, f"{asked}{empty}{LAST_REQUEST}")) as made:
        _, answer = read_all(made).split(b"\r\n\r\n", 1)
    assert answer[: end - start] == CONTENT[start:end]
    assert answer[end - start :].startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1 206") == 1 and answer.endswith(CONTENT[7:10])


@pytest.mark.parametrize("receive_bytes", [4096, 4 << 20])
def test_a_file_that_is_written_to_while_a_client_is_slow_is_cut_short_or_as_it_was(
    tmp_path: Path, receive_bytes: int
) -> None:
    repos = write_tree(tmp_path, {"org/m/large.bin": CONTENT})
    head = f"{REQUEST}Connection: close\r\n\r\n"
    with serving(repos) as endpoint, closing(connect(endpoint, head, receive_bytes=receive_bytes)) as made:
        # All but what the sockets of both ends hold: the server may be done with the rest, or not.
        received = bytearray()
        while len(received) < SIZE_BYTES - (3 << 20):
            received += made.recv(1 << 20)
        time.sleep(0.3)
        with (repos / "org/m/large.bin").open("r+b") as stream:
            stream.seek(SIZE_BYTES - (4 << 20))
            stream.write(bytes(4 << 20))
        received += read_all(made)
    content = bytes(received).split(b"\r\n\r\n", 1)[1]
    assert content == CONTENT[: len(content)]


def test_clients_that_go_away_at_once_are_no_fault_of_the_server(repos: Path) -> None:
    with serving(repos) as endpoint:
        for _ in range(20):
            connect(endpoint, f"{REQUEST}\r\n").close()
        with closing(connect(endpoint, LAST_REQUEST)) as made:
            assert read_all(made).endswith(CONTENT[7:10])


def test_a_server_that_stops_beside_downloads_that_stall_says_nothing_of_it(repos: Path) -> None:
    words = [sys.executable, "-m", "bundler", "serve", str(repos), "--port", "0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        endpoint = json.loads(server.stdout.readline())["endpoint"]
        stalled = [connect(endpoint, f"{REQUEST}\r\n", receive_bytes=4096) for _ in range(3)]
        for made in stalled:
            made.recv(100)
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=60)
        for made in stalled:
            made.close()
    assert server.returncode == 0 and "Traceback" not in said
