"""The table of ways out in OFFLINE_MODE.md, row by row: what a kind stops does not leave, and what it does not, does.

Each program runs without a guard, as compiled code would, on a machine of its own (`tests.support.network.outside`).
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from tests.offline.conftest import KINDS, PYTHON
from tests.support.network.outside import ABSTRACT, GROUP_IPV6, NAME_DAEMONS, OTHER_DAEMONS, OUTSIDE, Left, outside
from tests.support.process import script

_TEXT = (Path(__file__).parents[2] / "OFFLINE_MODE.md").read_text(encoding="utf-8")
_LINES = _TEXT.partition("<!-- ways out:")[2].partition("\n\n")[0].splitlines()[1:]
_CELLS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in _LINES]
_KINDS = [cell.strip("`") for cell in _CELLS[0][1:]]
# Row -> kind -> stopped or not.
TABLE = {
    re.match(r"`([\w-]+)`", row[0])[1]: dict(zip(_KINDS, row[1:], strict=True))  # type: ignore[index]
    for row in _CELLS[2:]
}
# No test has a file system over the network.
UNTRIED = {"file"}

_START = f"""
import contextlib, ctypes, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
OUTSIDE, GIVEN = "{OUTSIDE}", 99
def sent(address, *options, kind=socket.SOCK_DGRAM, family=socket.AF_INET):
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    for option in options:
        sock.setsockopt(*option)
    with contextlib.suppress(BlockingIOError):
        sock.connect(address) if kind == socket.SOCK_STREAM else sock.sendto(b"x", address)
def found(*paths):
    for path in paths:
        with contextlib.suppress(OSError):
            socket.socket(socket.AF_UNIX).connect(path)
"""
_DEVICE = "socket.if_nametoindex('out0') if 'out0' in [n for _, n in socket.if_nameindex()] else 77"

# Row -> program. One that says "left" has what it wanted, where there is nothing that could be caught.
PROGRAMS = {
    "tcp": """
        for family, host in ((socket.AF_INET, OUTSIDE), (socket.AF_INET6, "2001:db8::1")):
            with contextlib.suppress(OSError):
                sent((host, 80), kind=socket.SOCK_STREAM, family=family)
    """,
    "high-port": "sent((OUTSIDE, 8080), kind=socket.SOCK_STREAM)",
    "udp": """
        for port in (53, 443):
            with contextlib.suppress(OSError):
                sent((OUTSIDE, port))
    """,
    "fast-open": """
        sock = socket.socket()
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.sendto(b"x", 0x20000000, (OUTSIDE, 80))
    """,
    "sendmmsg": """
        def name(host, port):
            text = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s", port, socket.inet_aton(host)) + bytes(8)
            return ctypes.create_string_buffer(text, 16)
        inside = socket.socket(type=socket.SOCK_DGRAM)
        inside.bind(("127.0.0.1", 0))
        names, data = [name(*inside.getsockname()), name(OUTSIDE, 9)], ctypes.create_string_buffer(b"x")
        vector = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(data), 1))
        where = ctypes.addressof(vector)
        heads = [struct.pack("=QI4xQQQQi4xI4x", ctypes.addressof(n), 16, where, 1, 0, 0, 0, 0) for n in names]
        headers = b"".join(heads)
        sender = socket.socket(type=socket.SOCK_DGRAM)
        libc.sendmmsg(sender.fileno(), headers, 2, 0)
    """,
    "multicast": f"""
        index = struct.pack("=I", {_DEVICE})
        four, six = socket.inet_aton("224.0.0.251"), socket.inet_pton(socket.AF_INET6, "{GROUP_IPV6}")
        storage = struct.pack("=H2x4s", socket.AF_INET, socket.inet_aton("224.0.0.252")).ljust(128, bytes(1))
        held = []
        for family, *option in (
            (socket.AF_INET, 0, 35, four + socket.inet_aton("10.77.0.2")),
            (socket.AF_INET, 0, 39, socket.inet_aton("232.0.0.1") + socket.inet_aton("10.77.0.2") + four),
            (socket.AF_INET, 0, 42, index + bytes(4) + storage),
            (socket.AF_INET6, 41, 20, six + index),
        ):
            with contextlib.suppress(OSError):
                held.append(socket.socket(family, socket.SOCK_DGRAM))
                held[-1].setsockopt(*option)
        import time
        time.sleep(0.5)  # the kernel sends its reports a moment later
    """,
    "source-route": """
        route = bytes([131, 7, 4]) + socket.inet_aton(OUTSIDE) + bytes(1)
        sent(("127.0.0.1", 9), (0, 4, route))
    """,
    "device": "sent(('127.0.0.1', 9), (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'out0\\0'))",
    "device-of-message": f"""
        info = struct.pack("=I8x", {_DEVICE})
        socket.socket(type=socket.SOCK_DGRAM).sendmsg([b"x"], [(0, 8, info)], 0, ("127.0.0.1", 9))
    """,
    "raw": "socket.socket(type=socket.SOCK_RAW, proto=1).sendto(b'\\x08\\0' + bytes(6), (OUTSIDE, 0))",
    "packet": """
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind(("out0", 0x0800))
        sock.send(bytes(60))
    """,
    "vsock": "socket.socket(40, socket.SOCK_STREAM); print('left')",
    "sctp": "socket.socket(proto=132); print('left')",
    "io_uring": "print('left' if libc.syscall(425, 8, bytes(120)) != -1 else '')",
    "key": """
        # By a key that is there already: no program of the system is needed.
        libc.syscall(248, b"user", b"bundle-test", b"x", 1, -2)
        print("left" if libc.syscall(249, b"user", b"bundle-test", None, 0) != -1 else "")
    """,
    "inherited-tcp": "os.write(GIVEN, b'x')",
    "inherited-udp": "os.write(GIVEN, b'x')",
    "inherited-loose": "socket.socket(fileno=GIVEN).sendto(b'x', (OUTSIDE, 9))",
    "inherited-stdout": "print('left')",
    "taken": """
        for name in os.listdir("/proc"):
            if name.isdecimal():
                with contextlib.suppress(OSError):
                    taken = libc.syscall(438, os.pidfd_open(int(name)), GIVEN, 0)
                    os.write(taken, b"x")
    """,
    "devices": """
        import subprocess, time
        def ip(*words):
            return subprocess.run(["ip", *words], capture_output=True).returncode == 0
        device = "out0"
        if not ip("link", "show", device):
            # Over that of the namespace outside, which a process there stands for.
            process, index = os.environ["TEST_OUTSIDE"].split()
            device = "own0"
            ip("netns", "attach", "outside", process)
            ip("netns", "set", "outside", "7")
            ip("link", "add", "link", f"if{index}", "name", device, "link-netnsid", "7", "type", "macvlan")
            ip("address", "add", "10.77.0.9/24", "dev", device)
            ip("link", "set", device, "up")
        ip("neighbour", "add", "10.77.0.5", "dev", device, "use")
        time.sleep(0.5)  # the kernel asks a moment later
    """,
    "name-daemon": f"found(*{NAME_DAEMONS!r})",
    "other-daemon": f"found(*{OTHER_DAEMONS!r})",
    "abstract-daemon": f"found({ABSTRACT!r})",
}
_CASES = [(row, kind) for row in TABLE if row not in UNTRIED for kind in KINDS]


def _leaves(row: str, *launcher: str | Path) -> tuple[bool, Left]:
    code = _START + textwrap.dedent(PROGRAMS[row])
    inherited = row.removeprefix("inherited-") if row.startswith("inherited-") else ""
    inherited = "taken" if row == "taken" else inherited
    left = outside([*launcher, PYTHON, "-S", "-c", code], inherited)
    return bool(left.packets or left.asked or "left" in left.out), left


@pytest.fixture(scope="module")
def control() -> dict[str, bool]:
    """Which rows leave without a launch, as far as they were tried."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(("row", "kind"), _CASES)
def test_what_a_row_says_is_so(home: Path, control: dict[str, bool], row: str, kind: str) -> None:
    if row not in control:
        control[row], _ = _leaves(row)
    if not control[row]:
        pytest.skip("this machine has no such way out")
    launcher = [script("bundle"), "run", "--hf-home", home, "--isolate", kind, "--strict", "--"]
    leaves, left = _leaves(row, *launcher)
    assert (TABLE[row][kind] == "not") == leaves, left
    if row == "inherited-stdout":
        assert left.code == 11


def test_each_row_has_a_program_and_a_word_for_each_kind() -> None:
    assert set(PROGRAMS) | UNTRIED == set(TABLE)
    assert {word for row in TABLE.values() for word in row.values()} == {"stopped", "not"}
    assert _KINDS == ["netns", "seccomp", "landlock", "none"]
    assert {word for row in UNTRIED for word in TABLE[row].values()} == {"not"}
