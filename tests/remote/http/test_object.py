"""Ranges of a web server: in parallel, resumed, and never of two objects."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bundler.errors import ChangedError, NetworkError, RemoteError, SpaceError
from bundler.remote.address import Address
from bundler.remote.ahead import Ahead
from bundler.remote.http import answer, patience
from bundler.remote.http.object import HEAD_BYTES
from bundler.remote.object import RemoteObject
from bundler.remote.opening import open_remote
from bundler.remote.whole import WholeObject
from tests.support.network.ranged import RangedServer, Request

CONTENT = random.Random(1).randbytes(1_000_000)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES_SECONDS", (0.0,) * 5)


@pytest.fixture
def web() -> Iterator[RangedServer]:
    with RangedServer({"/a": CONTENT}) as server:
        yield server


def opened(web: RangedServer, path: str = "/a") -> RemoteObject:
    return open_remote(Address(web.url + path))


def read(found: RemoteObject, start: int, size_bytes: int) -> bytes:
    data = bytearray(size_bytes)
    found.read_into(start, memoryview(data))
    return bytes(data)


def test_ranges_are_those_of_the_object(web: RangedServer) -> None:
    found = opened(web)
    assert (found.size_bytes, found.has_ranges) == (len(CONTENT), True)
    for start, size in [(0, 10), (HEAD_BYTES - 5, 10), (500_000, 100_000), (len(CONTENT) - 1, 1)]:
        assert read(found, start, size) == CONTENT[start : start + size]
    found.close()


def test_a_connection_that_breaks_goes_on_where_it_broke(web: RangedServer) -> None:
    found = opened(web)
    web.breaks = lambda request: 30_000
    before = web.sent_bytes
    assert read(found, 100_000, 200_000) == CONTENT[100_000:300_000]
    assert web.sent_bytes - before == 200_000


def test_a_server_that_always_breaks_is_given_up(web: RangedServer) -> None:
    found = opened(web)
    web.breaks = lambda request: 0
    with pytest.raises(NetworkError):
        read(found, 100_000, 10)


def test_content_in_a_form_that_was_not_asked_for_is_refused(web: RangedServer) -> None:
    web.encoding = "gzip"
    with pytest.raises(RemoteError):
        opened(web)


def test_a_connection_that_drips_is_given_up(web: RangedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "WATCHED_SECONDS", 0.05)
    monkeypatch.setattr(patience, "PAUSES_SECONDS", ())
    found = opened(web)
    web.drips = True
    with pytest.raises(NetworkError):
        read(found, 100_000, 300)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(web: RangedServer, status: int) -> None:
    answers = [status, status, None, status]
    web.status = lambda request: answers.pop(0) if answers else None
    found = opened(web)
    assert read(found, 100_000, 10) == CONTENT[100_000:100_010]
    assert not answers


@pytest.mark.parametrize(("status", "asked"), [(401, 1), (403, 1), (404, 1), (500, 6)])
def test_a_refusal_is_told_with_its_status(web: RangedServer, status: int, asked: int) -> None:
    web.status = lambda request: status
    with pytest.raises(RemoteError) as caught:
        opened(web)
    assert (caught.value.status, len(web.requests)) == (status, asked)


def test_another_object_between_two_ranges_is_noticed_by_its_tag(web: RangedServer) -> None:
    found = opened(web)
    web.etag = '"2"'
    with pytest.raises(ChangedError):
        read(found, 100_000, 10)


def test_another_object_between_two_ranges_is_noticed_by_its_length(web: RangedServer) -> None:
    web.etag = ""
    found = opened(web)
    web.files["/a"] = CONTENT[:-1]
    with pytest.raises(ChangedError):
        read(found, 100_000, 10)


def test_an_object_that_got_shorter_than_the_range_is_noticed(web: RangedServer) -> None:
    web.etag = ""
    found = opened(web)
    web.files["/a"] = b"short"
    with pytest.raises(ChangedError):
        read(found, 100_000, 10)


def test_a_server_that_sends_all_for_one_range_is_read_up_to_it(web: RangedServer) -> None:
    found = opened(web)
    web.ignores_ranges = True
    assert read(found, 700_000, 10) == CONTENT[700_000:700_010]


def test_a_server_without_ranges_is_streamed_or_copied(web: RangedServer) -> None:
    web.ignores_ranges = True
    found = opened(web)
    assert not found.has_ranges
    room = memoryview(bytearray(len(CONTENT) + 1))
    done = 0
    with found.stream() as body:
        while count := body.readinto(room[done:]):
            done += count
    assert room[:done] == CONTENT
    breaks = [100_000, None]
    web.breaks = lambda request: breaks.pop(0)
    whole = WholeObject(found)
    assert (whole.size_bytes, read(whole, 700_000, 10)) == (len(CONTENT), CONTENT[700_000:700_010])
    whole.close()


def test_an_object_without_ranges_that_grew_is_noticed(web: RangedServer) -> None:
    web.ignores_ranges = True
    found = opened(web)
    web.files["/a"] += b"more"
    with pytest.raises(ChangedError, match="has more now"):
        WholeObject(found)


def test_what_has_no_length_takes_half_of_the_room_at_most(
    web: RangedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.ignores_ranges, web.length = True, ""
    room = SimpleNamespace(total=1 << 30, used=0, free=2 * len(CONTENT))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    whole = WholeObject(opened(web))
    assert read(whole, 700_000, 10) == CONTENT[700_000:700_010]
    whole.close()
    room.free -= 2
    with pytest.raises(SpaceError):
        WholeObject(opened(web))


@pytest.mark.parametrize("told", ["9" * 5000, "99000000000000000000", "-1", "x"])
@pytest.mark.parametrize("where", ["total", "length"])
def test_a_length_that_is_none_is_refused(web: RangedServer, where: str, told: str) -> None:
    setattr(web, where, told)
    web.ignores_ranges = where == "length"
    with pytest.raises(RemoteError):
        opened(web)


def test_an_empty_object_has_no_bytes(web: RangedServer) -> None:
    web.files["/empty"] = b""
    assert opened(web, "/empty").size_bytes == 0


def test_where_a_redirect_leads_is_asked_directly_and_the_first_again_when_it_expires(web: RangedServer) -> None:
    with RangedServer({"/stored": CONTENT}) as store:
        web.redirects["/a"] = f"{store.url}/stored?signature=secret"
        found = opened(web)
        asked = len(web.requests)
        assert read(found, 100_000, 10) == CONTENT[100_000:100_010]
        assert len(web.requests) == asked
        refusals = [403]
        store.status = lambda request: refusals.pop() if refusals else None
        assert read(found, 200_000, 10) == CONTENT[200_000:200_010]
        assert len(web.requests) == asked + 1


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:99999/x",
        "http://[::1/x",
        "https:///x",
        "http://a..b/x",
        "https://",
        "file:///x",
        "//user:p@ss:x/y",
    ],
)
def test_a_redirect_to_no_address_is_refused_at_once(web: RangedServer, location: str) -> None:
    web.redirects["/a"] = location
    with pytest.raises(RemoteError):
        opened(web)
    assert len(web.requests) == 1


def test_what_is_not_ascii_or_has_spaces_is_quoted_and_a_user_is_not_sent(web: RangedServer) -> None:
    host = web.url.removeprefix("http://")
    web.files["/mod%C3%A8le"] = CONTENT
    # A header's bytes, as the library sends and takes them.
    web.redirects["/a"] = f"http://bob:x@{host}/modèle?n=my model".encode().decode("latin-1")
    for path in ("/modèle", "/a"):
        assert opened(web, path).size_bytes == len(CONTENT)
    assert web.requests[-1].path == "/mod%C3%A8le?n=my%20model"
    assert {request.headers["host"] for request in web.requests} == {host}


def test_a_login_goes_to_its_own_server_only_and_into_no_message(web: RangedServer) -> None:
    web.login = "Basic dXNlcjpzZWNyZXQ="
    with_login = Address(web.url.replace("//", "//user:secret@") + "/a?key=hidden")
    with RangedServer({"/stored": CONTENT}) as store:
        web.redirects["/a"] = f"{store.url}/stored"
        found = open_remote(with_login)
        assert read(found, 100_000, 10) == CONTENT[100_000:100_010]
        assert store.requests
        assert all("authorization" not in request.headers for request in store.requests)
        store.status = web.status = lambda request: 403
        with pytest.raises(RemoteError) as caught:
            read(found, 200_000, 10)
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("told", ["bytes 5-9/1000000", "bytes 0-9/1000000", "nonsense", ""])
def test_a_part_that_was_not_asked_for_is_refused(
    web: RangedServer, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = opened(web)
    from bundler.remote.http.answer import Answer

    real = Answer.header
    monkeypatch.setattr(Answer, "header", lambda self, name: told if name == "Content-Range" else real(self, name))
    with pytest.raises(RemoteError):
        read(found, 100_000, 10)


def test_what_is_announced_comes_ahead_joined_and_once(web: RangedServer) -> None:
    found = opened(web)
    spans = [(at, at + 50_000) for at in range(100_000, 900_000, 50_000)]
    before = web.sent_bytes
    ahead = Ahead(found, spans)
    for start, stop in random.Random(2).sample(spans, len(spans)):
        data = bytearray(stop - start)
        assert ahead.read_into(start, memoryview(data))
        assert data == CONTENT[start:stop]
    assert web.sent_bytes - before == 800_000
    assert not ahead.read_into(0, memoryview(bytearray(10)))
    assert len(web.requests) == 2
    ahead.close()


def test_a_failure_ahead_is_that_of_whoever_asks(web: RangedServer) -> None:
    found = opened(web)

    def status(request: Request) -> int | None:
        return 404 if request.first >= 500_000 else None

    web.status = status
    ahead = Ahead(found, [(100_000, 100_010), (500_000, 500_010)])
    assert ahead.read_into(100_000, memoryview(bytearray(10)))
    with pytest.raises(RemoteError):
        ahead.read_into(500_000, memoryview(bytearray(10)))
    ahead.close()
