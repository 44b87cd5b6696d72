"""A machine with an outside, in namespaces of its own: what leaves it is caught, and who is asked on it is known.

A program finds in TEST_OUTSIDE a process of its network namespace, and the number of the device that leads outside.

``python -m tests.support.network.outside`` is started in a network and a mount namespace (`outside`). It has a cable to
nowhere with a default route over it, watched at its other end; daemons on the UNIX sockets of name services and
others, which note who comes; and a listener on loopback, which stands for a peer outside where a socket is connected
already.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[3]
OUTSIDE = "198.51.100.7"
NAME_DAEMONS = (
    "/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/avahi-daemon/socket",
    "/run/dbus/system_bus_socket",
)
OTHER_DAEMONS = ("/run/docker.sock",)
ABSTRACT = "\0bundle-test-daemon"

# The group of IPv6 that a test may join: reports of others are the kernel's own.
GROUP_IPV6 = "ff02::fb"

_ICMPV6 = 58
_CABLE = f"""
ip link add out0 type veth peer name out1
ip link set lo up; ip link set out1 up; ip link set out0 up
ip address add 10.77.0.2/24 dev out0; ip -6 address add fd77::2/64 dev out0 nodad
ip neighbour add 10.77.0.1 lladdr 02:00:00:00:00:01 dev out0 nud permanent
ip -6 neighbour add fd77::1 lladdr 02:00:00:00:00:01 dev out0 nud permanent
ip route add default via 10.77.0.1; ip -6 route add default via fd77::1
mount -t tmpfs tmpfs /run; mkdir -p {" ".join(str(Path(path).parent) for path in NAME_DAEMONS)}
"""
_ETHERNET_BYTES, _OUTGOING, _ALL_PROTOCOLS = 14, 4, 3
_GIVEN = 99
_MARKER = b"the command has ended"


@dataclass(frozen=True)
class Left:
    """What a command did outside.

    Attributes:
        code: Its exit code.
        packets: Frames that left, without their Ethernet head, in hexadecimal.
        asked: Sockets of daemons that were connected to, or "peer" for the listener that got data.
        out: What the command wrote to stdout.
        err: And to stderr.
    """

    code: int
    packets: list[str]
    asked: list[str]
    out: str
    err: str


def outside(argv: Sequence[str | Path], inherited: str = "") -> Left:
    """Run a command on a machine with an outside, and return what got there.

    Args:
        argv: Command and arguments.
        inherited: A socket to give it as descriptor 99 (`stdout`: as its standard output): `tcp` connected to the
            listener, `udp` connected to the outside, `loose` UDP not connected. `taken`: this process has one like
            `udp` there, and gives it to nobody.
    """
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("a machine with an outside takes unshare(1) and ip(8)")
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    words = [sys.executable, "-m", "tests.support.network.outside", inherited, *map(str, argv)]
    done = subprocess.run(
        ["unshare", *user, "--net", "--mount", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_SECONDS,
    )
    # A fault of ours must not look like a machine that cannot.
    assert "module specification" not in done.stderr, done.stderr
    if not done.stdout:
        pytest.skip(f"this machine makes no other one: {done.stderr[-300:]}")
    return Left(**json.loads(done.stdout))


def _main(inherited: str, argv: list[str]) -> None:
    subprocess.run(["sh", "-e", "-c", _CABLE], check=True, capture_output=True)
    with contextlib.ExitStack() as stack:
        daemons = {path: stack.enter_context(_listen(path)) for path in (*NAME_DAEMONS, *OTHER_DAEMONS, ABSTRACT)}
        peer = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        cable = stack.enter_context(_watch("out1"))
        _frames_until_marker(cable)  # what the kernel says of its own accord when a cable is plugged in
        out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2))
        code = _run(inherited, peer.getsockname(), argv, out.fileno(), err.fileno())
        frames = _frames_until_marker(cable)
        asked = [path.strip("\0") for path, daemon in daemons.items() if _was_asked(daemon)]
        asked += ["peer"] if _was_told(peer) else []
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
    print(json.dumps({"code": code, "packets": frames, "asked": asked, "out": texts[0], "err": texts[1]}))


def _run(inherited: str, peer: Any, argv: list[str], out: int, err: int) -> int:
    kind = socket.SOCK_DGRAM if inherited in ("udp", "loose", "taken") else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as given:
        if inherited in ("tcp", "stdout"):
            given.connect(peer)
        if inherited in ("udp", "taken"):
            given.connect((OUTSIDE, 9))
        os.dup2(given.fileno(), _GIVEN)
        fds = (_GIVEN,) if inherited in ("tcp", "udp", "loose") else ()
        stdout = given.fileno() if inherited == "stdout" else out
        env = {**os.environ, "TEST_OUTSIDE": f"{os.getpid()} {socket.if_nametoindex('out0')}"}
        done = subprocess.run(argv, env=env, pass_fds=fds, stdout=stdout, stderr=err, stdin=subprocess.DEVNULL)
        os.close(_GIVEN)
        return done.returncode


def _listen(path: str) -> socket.socket:
    daemon = socket.socket(socket.AF_UNIX)
    daemon.bind(path)
    daemon.listen()
    daemon.setblocking(False)
    return daemon


def _was_asked(daemon: socket.socket) -> bool:
    """Tell whether somebody has connected: the kernel lets them before anybody accepts."""
    with contextlib.suppress(BlockingIOError):
        daemon.accept()[0].close()
        return True
    return False


def _was_told(peer: socket.socket) -> bool:
    """Tell whether the one connection, whose other ends are all closed by now, has brought anything."""
    peer.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        connection, _ = peer.accept()
        with connection:
            connection.setblocking(True)
            return bool(connection.recv(1))
    return False


@contextlib.contextmanager
def _watch(device: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as cable:
        cable.bind((device, 0))
        yield cable


def _frames_until_marker(cable: socket.socket) -> list[str]:
    """Return what came over the cable before a datagram of our own, which is sent now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
        marker.sendto(_MARKER, (OUTSIDE, 9))
    frames = []
    while True:
        frame, address = cable.recvfrom(65536)
        if frame.endswith(_MARKER):
            return frames
        if address[2] != _OUTGOING and not _is_of_its_own_accord(frame[_ETHERNET_BYTES:]):
            frames.append(frame[_ETHERNET_BYTES:].hex())


def _is_of_its_own_accord(packet: bytes) -> bool:
    """Tell whether it is what a kernel says to neighbours when a cable is plugged in, for a second or two."""
    if packet[0] >> 4 != 6:
        return False
    is_icmp = packet[6] == _ICMPV6 or (packet[6] == 0 and packet[40] == _ICMPV6)
    return is_icmp and socket.inet_pton(socket.AF_INET6, GROUP_IPV6) not in packet


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
