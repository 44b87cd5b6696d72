"""Which addresses a launch may reach: this machine's own, and the networks that the user gave with `--allow-net`.

Rule book:

* a packet to loopback, to an unspecified address or to one of this machine's own addresses never leaves it;
* port 53 is the exception: what answers there on this machine asks others. A name server may be asked where a given
  network holds it; one on loopback only where its very address was given (`--allow-net 127.0.0.53/32`), since
  loopback as a whole is given for the sake of the ranks of a job;
* an IPv4 address in the clothes of IPv6 (``::ffff:10.0.0.1``) is the IPv4 address.

The guard inside Python has rules of the same meaning in `guard`, which may import nothing of this package.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from bundler.errors import OfflineError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DNS = 53


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks that a user wrote as ``10.0.0.0/8``, ``fd00::/8`` or ``10.1.2.3``, each once.

    Raises:
        OfflineError: One of them is none.
    """
    found: dict[Network, None] = {}
    for text in texts:
        try:
            found[ipaddress.ip_network(text.strip(), strict=False)] = None
        except ValueError as error:
            raise OfflineError(
                f"--allow-net {text}: expected a network as an address and a prefix length ({error})",
                hint="for instance `--allow-net 10.0.0.0/8`, or `--allow-net 10.1.2.3` for one address; not a name",
            ) from error
    return tuple(found)


def only_loopback(networks: Iterable[Network]) -> bool:
    """Tell whether a network namespace, which has loopback, holds all of them."""
    return all(network.is_loopback for network in networks)


def whole_internets(networks: Iterable[Network]) -> list[Network]:
    """Return ``0.0.0.0/0``, or ``::/0``, or both, where the networks together leave none of its addresses out."""
    networks = tuple(networks)
    together: list[Network] = [
        *ipaddress.collapse_addresses([n for n in networks if isinstance(n, ipaddress.IPv4Network)]),
        *ipaddress.collapse_addresses([n for n in networks if isinstance(n, ipaddress.IPv6Network)]),
    ]
    return [network for network in together if network.prefixlen == 0]


def covers(outer: Iterable[Network], inner: Iterable[Network]) -> bool:
    """Tell whether each of `inner` lies within one of `outer`, or on loopback."""
    outer = tuple(outer)
    return all(
        network.is_loopback
        or any(_is_within(network, wider) for wider in outer if wider.version == network.version)
        for network in inner
    )


def _is_within(network: Network, wider: Network) -> bool:
    return network.network_address in wider and network.prefixlen >= wider.prefixlen


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What a launch may talk to.

    Attributes:
        networks: Given by the user.
        own: Addresses of this machine, besides loopback.
    """

    networks: tuple[Network, ...] = ()
    own: tuple[Address, ...] = ()

    def allows(self, address: Address, port: int) -> bool:
        """Tell whether a packet may be sent to this address and port."""
        address = getattr(address, "ipv4_mapped", None) or address
        given = [network for network in self.networks if address in network]
        if port == _DNS and address.is_loopback:
            return any(network.prefixlen == network.max_prefixlen for network in given)
        if given:
            return True
        return port != _DNS and (address.is_loopback or address.is_unspecified or address in self.own)
