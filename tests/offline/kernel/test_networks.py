"""bundler.offline.kernel.networks: what stays in reach."""

from __future__ import annotations

import ipaddress

import pytest

from bundler.offline.kernel.networks import Reach, covers, parse_networks

REACH = Reach(networks=parse_networks(["10.0.0.0/8", "fd00::/8"]), own=(ipaddress.IPv4Address("192.0.2.2"),))


@pytest.mark.parametrize(
    ("address", "port", "allowed"),
    [
        ("127.0.0.1", 80, True),
        ("127.8.8.8", 80, True),
        ("::1", 80, True),
        ("0.0.0.0", 80, True),
        ("::", 80, True),
        ("192.0.2.2", 80, True),
        ("10.255.0.1", 443, True),
        ("fd12::1", 443, True),
        ("::ffff:10.0.0.1", 443, True),
        ("::ffff:127.0.0.1", 443, True),
        ("198.51.100.7", 443, False),
        ("::ffff:198.51.100.7", 443, False),
        ("2001:db8::1", 443, False),
        ("11.0.0.1", 443, False),
        ("224.0.0.251", 5353, False),
        ("255.255.255.255", 67, False),
    ],
)
def test_this_machine_and_the_given_networks_are_in_reach(address: str, port: int, allowed: bool) -> None:
    assert REACH.allows(ipaddress.ip_address(address), port) == allowed


def test_a_name_server_is_in_reach_only_where_the_user_has_given_its_address() -> None:
    """On loopback sits a forwarder: a question to it is a packet to the outside."""
    stub, cluster = ipaddress.ip_address("127.0.0.53"), ipaddress.ip_address("10.0.0.2")
    assert not Reach(networks=parse_networks(["127.0.0.0/8"])).allows(stub, 53)
    assert Reach(networks=parse_networks(["127.0.0.53"])).allows(stub, 53)
    assert not REACH.allows(ipaddress.ip_address("192.0.2.2"), 53)
    assert REACH.allows(cluster, 53)


def test_an_inner_launch_cannot_ask_for_more_than_the_outer_one() -> None:
    outer = parse_networks(["10.0.0.0/8"])
    assert covers(outer, parse_networks(["10.1.0.0/16", "127.0.0.0/8"]))
    assert not covers(outer, parse_networks(["0.0.0.0/0"]))
    assert not covers(outer, parse_networks(["10.0.0.0/7"]))
    assert not covers(outer, parse_networks(["fd00::/8"]))
