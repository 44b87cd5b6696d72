"""Servers that take time without end: each is given up, and what is waited for is said before."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bundler.errors import NetworkError, RemoteError
from bundler.remote import waiting
from bundler.remote.address import Address
from bundler.remote.http import answer, patience
from bundler.remote.http.client import Client
from bundler.remote.http.patience import LaterError, Patience
from bundler.remote.opening import open_remote
from tests.support.network.ranged import RangedServer

CONTENT = random.Random(1).randbytes(300_000)


@pytest.fixture
def web() -> Iterator[RangedServer]:
    with RangedServer({"/a": CONTENT}) as server:
        yield server
        server.released.set()


def test_a_byte_for_each_try_is_nothing_new(web: RangedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES_SECONDS", (0.0,) * 5)
    found = open_remote(Address(f"{web.url}/a"))
    web.breaks = lambda request: 1
    with pytest.raises(NetworkError):
        found.read_into(100_000, memoryview(bytearray(1000)))
    assert len(web.requests) == 1 + 1 + 5


def test_what_has_come_is_handed_over_before_there_is_all(web: RangedServer) -> None:
    # Of this server, all would take the best part of an hour.
    web.drips = True
    with pytest.raises(InterruptedError), Client().send("GET", f"{web.url}/a") as found:
        assert 0 < found.readinto(memoryview(bytearray(len(CONTENT)))) < len(CONTENT)
        raise InterruptedError  # What is left is not read.


def test_a_connection_is_used_again_after_an_answer_that_was_read_to_its_end(web: RangedServer) -> None:
    client = Client()
    for length in ("300000", ""):
        web.length = length
        for _ in range(2):
            with client.send("GET", f"{web.url}/a") as found:
                room, done = memoryview(bytearray(len(CONTENT) + 1)), 0
                while count := found.readinto(room[done:]):
                    done += count
            assert room[:done] == CONTENT
    assert len({request.client for request in web.requests}) == 1
    client.close()


def test_a_short_answer_that_drips_is_given_up(web: RangedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "SHORT_SECONDS", 0.05)
    web.drips = True
    with pytest.raises(TimeoutError), Client().send("GET", f"{web.url}/a") as found:
        found.read(len(CONTENT))


def test_a_short_answer_that_ends_early_is_none(web: RangedServer) -> None:
    web.breaks = lambda request: 10
    with pytest.raises(ConnectionError), Client().send("GET", f"{web.url}/a") as found:
        found.read(len(CONTENT))


def test_a_head_without_end_is_given_up_and_said_before(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answer, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(waiting, "NOTE_SECONDS", 0.05)
    monkeypatch.setattr(patience, "PAUSES_SECONDS", ())
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 ")
                for _ in range(6000):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return
                    time.sleep(0.01)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a"
        with pytest.raises(NetworkError):
            open_remote(Address(url))
        thread.join()
    assert [record.getMessage() for record in caplog.records] == [f"note: waiting for {url}"]


def test_a_server_may_ask_for_two_minutes_in_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    waits, refusal = Patience(), RemoteError("http://host/a: the server answered 503", status=503)
    waits.wait(LaterError(refusal, 119.0), 0, "http://host/a")
    with pytest.raises(RemoteError):
        waits.wait(LaterError(refusal, 119.0), 0, "http://host/a")
    assert slept == [119.0]
    assert "in 119 s" in caplog.text


def test_what_is_slow_is_no_new_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for seconds, is_endless in ((1.0, True), (1000.0, False)):
        waits, tries = Patience(), 0
        with pytest.raises(NetworkError):
            for tries in range(1, 10):
                now[0] += seconds
                waits.wait(ConnectionError("broken"), tries * 100_000, "http://host/a")
            raise NetworkError("never given up")
        assert (tries == 9) is is_endless
