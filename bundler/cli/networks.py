"""How `bundle run` is told which networks stay in reach, and which targets are known to be tried."""

from __future__ import annotations

import click

from bundler.console.paths import check_given
from bundler.errors import OfflineError


class NetworkInReach(click.ParamType[str]):
    """A network as an address and a prefix length, or a single address."""

    name = "CIDR"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType`."""
        from bundler.offline.kernel.networks import parse_networks

        check_given(value, param, ctx)
        try:
            parse_networks([value])
        except OfflineError as error:
            self.fail(f"{error.message.removeprefix('--allow-net ')}; {error.hint}", param, ctx)
        return value


class Target(click.ParamType[str]):
    """A host and a port."""

    name = "HOST:PORT"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType`."""
        check_given(value, param, ctx)
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isdigit() and int(port) < 1 << 16):
            self.fail(
                f"{value!r}: expected a host and a port, as in `8.8.8.8:80` or `[2001:db8::1]:443`", param, ctx
            )
        return value
