"""Which names are answered from within given networks, so that looking them up asks nobody outside.

The guard loads this as it loads `caller`, when a launch names networks: the standard library only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path


def is_answered_within(name: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Tell whether no question about `name` leaves `networks`: nodes of a job know each other by name."""
    if any(name in line.partition("#")[0].lower().split()[1:] for line in _read_lines("/etc/hosts")):
        return True
    settings = [words for line in _read_lines("/etc/resolv.conf") if len(words := line.split()) > 1]
    servers = [words[1].partition("%")[0] for words in settings if words[0] == "nameserver"]
    return bool(servers) and all(_may_be_asked(server, networks) for server in servers)


def _may_be_asked(server: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    # A server on loopback asks others, so loopback as a whole does not count.
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return False
    return any(
        address in network and (not address.is_loopback or network.prefixlen == network.max_prefixlen)
        for network in networks
    )


def _read_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
