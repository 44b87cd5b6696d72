"""A small cluster on one machine: network namespaces behind one switch, each with a line of limited rate."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_PREFIX = f"scale{os.getpid()}"
_SWITCH = f"{_PREFIX}-switch"
ORIGIN_ADDRESS = "10.77.0.1"
# Of a frame of 1,514 bytes, which the limit counts, TCP carries 1,448.
PAYLOAD_SHARE = 1448 / 1514


def why_not() -> str | None:
    """Return what is missing to make one, or None."""
    if os.geteuid():
        return "namespaces with limited lines take root"
    missing = [tool for tool in ("ip", "tc") if not shutil.which(tool)]
    return f"{' and '.join(missing)} not found (Debian: iproute2)" if missing else None


@dataclass(frozen=True)
class Cluster:
    """Namespaces that are there.

    Attributes:
        nodes: Their names.
        origin: Name of the namespace of the origin.
    """

    nodes: tuple[str, ...]
    origin: str

    @staticmethod
    def inside(name: str) -> Sequence[str]:
        """Return the words that run a command in a namespace."""
        return ("ip", "netns", "exec", name)

    def count_bytes(self, name: str, direction: str) -> int:
        """Return the bytes that went through a namespace's line: `rx`, what it received, or `tx`, what it sent."""
        path = f"/sys/class/net/line/statistics/{direction}_bytes"
        return int(_run(*self.inside(name), "cat", path))


@contextlib.contextmanager
def make_cluster(nodes: int, *, origin_rate: float, node_rate: float) -> Iterator[Cluster]:
    """Make the namespaces, and remove them at the end.

    Args:
        nodes: How many.
        origin_rate: Bytes a second that the origin can send, headers among them.
        node_rate: Bytes a second that a node can receive.
    """
    names = [f"{_PREFIX}-{number}" for number in range(nodes + 1)]
    with contextlib.ExitStack() as made:
        for name in (_SWITCH, *names):
            _run("ip", "netns", "add", name)
            made.callback(_run, "ip", "netns", "delete", name)
        switch = ("ip", "-n", _SWITCH)
        _run(*switch, "link", "add", "switch", "type", "bridge")
        _run(*switch, "link", "set", "switch", "up")
        for number, name in enumerate(names):
            _run(*switch, "link", "add", f"port{number}", "type", "veth", "peer", "name", "line", "netns", name)
            _run(*switch, "link", "set", f"port{number}", "master", "switch", "up")
            _run("ip", "-n", name, "address", "add", f"10.77.0.{number + 1}/24", "dev", "line")
            _run("ip", "-n", name, "link", "set", "line", "up")
            # A limit holds for what leaves a device: of a node that is the switch's end of its line.
            if number:
                _limit(_SWITCH, f"port{number}", node_rate)
        _limit(names[0], "line", origin_rate)
        yield Cluster(tuple(names[1:]), names[0])


def _limit(namespace: str, device: str, rate: float) -> None:
    words = ("tbf", "rate", f"{int(rate * 8)}bit", "burst", "256kb", "latency", "50ms")
    _run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", *words)


def _run(*words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
