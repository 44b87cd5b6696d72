"""Sockets to serve on, and the addresses that clients use for them."""

from __future__ import annotations

import socket

import pytest

from bundler.errors import UsageError
from bundler.serve.listen import endpoint_of, is_loopback, open_listener


def test_a_free_port_of_loopback_is_the_default() -> None:
    with open_listener() as listener:
        port = listener.getsockname()[1]
        assert (endpoint_of(listener), is_loopback(listener)) == (f"http://127.0.0.1:{port}", True)
        # Else an answer's second part waits for an acknowledgement.
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_every_interface_is_reached_by_loopback_on_this_machine() -> None:
    with open_listener("0.0.0.0") as listener:
        port = listener.getsockname()[1]
        assert (endpoint_of(listener), is_loopback(listener)) == (f"http://127.0.0.1:{port}", False)


def test_an_address_of_version_6_stands_in_brackets() -> None:
    try:
        listener = open_listener("::1")
    except UsageError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert endpoint_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_a_taken_port_and_an_unknown_host_are_wrong_usage() -> None:
    with open_listener() as taken, pytest.raises(UsageError):
        open_listener("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UsageError):
        open_listener("hub.invalid")
