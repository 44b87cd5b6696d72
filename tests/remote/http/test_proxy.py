"""Addresses behind the proxy of the environment: plain requests, and tunnels for https."""

from __future__ import annotations

import pytest

from bundler.errors import NetworkError, RemoteError
from bundler.remote.address import Address
from bundler.remote.http import patience
from bundler.remote.opening import open_remote
from tests.support.network.proxy import Proxy
from tests.support.network.ranged import RangedServer

CONTENT = bytes(200_000)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES_SECONDS", (0.0,))


def test_requests_go_through_it_and_no_proxy_spares_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with RangedServer({"/a": CONTENT}) as web, Proxy("works") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        found = open_remote(Address(f"{web.url}/a"))
        data = bytearray(10)
        found.read_into(100_000, memoryview(data))
        assert len(proxy.asked) == len(web.requests) == 2
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        open_remote(Address(f"{web.url}/a"))
        assert len(proxy.asked) == 2


def test_https_asks_it_for_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy("refuses") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(NetworkError) as caught:
            open_remote(Address("https://elsewhere.example/a"))
        assert proxy.asked[0].startswith("CONNECT elsewhere.example:443")
    assert "https_proxy" in caught.value.message


def test_one_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://user:secret@127.0.0.1:1")
    with pytest.raises((NetworkError, RemoteError)) as caught:
        open_remote(Address("http://elsewhere.example/a"))
    assert "http_proxy" in caught.value.message
    assert "secret" not in str(caught.value)
