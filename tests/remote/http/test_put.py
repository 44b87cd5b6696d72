"""Objects that are put on a web server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bundler.errors import RemoteError
from bundler.remote.address import Address
from bundler.remote.http.web import put_web
from tests.support.network.ranged import RangedServer

BLOCK = b"b" * (1 << 20)
BLOCKS = 64


@pytest.fixture
def web() -> Iterator[RangedServer]:
    with RangedServer({}) as server:
        yield server


def put(web: RangedServer) -> None:
    put_web(Address(f"{web.url}/a"), iter([BLOCK] * BLOCKS), BLOCKS * len(BLOCK))


def test_what_is_put_is_there(web: RangedServer) -> None:
    put(web)
    assert web.files == {"/a": BLOCK * BLOCKS}


@pytest.mark.parametrize(("status", "said"), [(413, "answered 413"), (307, "leads elsewhere")])
def test_a_server_that_refuses_before_it_has_read_all_is_understood(
    web: RangedServer, status: int, said: str
) -> None:
    web.refuses = status
    with pytest.raises(RemoteError, match=said):
        put(web)
