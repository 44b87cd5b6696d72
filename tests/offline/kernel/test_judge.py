"""What the judge of the seccomp filter says of one call; the arguments lie in this process's own memory."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.offline.kernel.judge import Judge
from bundler.offline.kernel.networks import Network, Reach, parse_networks
from bundler.offline.kernel.other_programs import is_held
from bundler.offline.kernel.system_calls import X86_64

HIGH_HALF = 1 << 32
LINK_LOCAL = socket.inet_pton(socket.AF_INET6, "fe80::1")
LOOPBACK = socket.inet_pton(socket.AF_INET6, "::1")
_kept: list[object] = []


def place(content: bytes) -> int:
    """Return where `content` lies."""
    buffer = ctypes.create_string_buffer(content, len(content))
    _kept.append(buffer)
    return ctypes.addressof(buffer)


def judge(call: str, *values: int, networks: tuple[Network, ...] = ()) -> int | None:
    """Return the error that a call gets; None if it goes on."""
    refusal = Judge(Reach(networks=networks)).judge(call, [*values, 0, 0, 0], os.getpid(), X86_64)
    return refusal.error if refusal else None


def address(host: bytes, scope: int) -> bytes:
    return struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", 9, 0) + host + struct.pack("=I", scope)


def unix(path: str) -> bytes:
    return struct.pack("=H", socket.AF_UNIX) + os.fsencode(path) + b"\0"


def message(control: bytes) -> int:
    """Return where a struct msghdr lies, for a datagram to ::1 with ancillary data."""
    to = address(LOOPBACK, 0)
    return place(struct.pack("=QI4xQQQQQ", place(to), len(to), 0, 0, place(control), len(control), 0))


def ancillary(level: int, kind: int, content: bytes) -> bytes:
    return (struct.pack("=Qii", 16 + len(content), level, kind) + content).ljust(
        -(-(16 + len(content)) // 8) * 8, b"\0"
    )


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_high_half_of_a_register_hides_no_raw_socket(family: int) -> None:
    assert judge("socket", family | HIGH_HALF, socket.SOCK_RAW, 255) == errno.EPERM
    assert judge("socket", family | HIGH_HALF, socket.SOCK_STREAM | HIGH_HALF, HIGH_HALF) is None
    assert judge("socket", family | HIGH_HALF, socket.SOCK_STREAM, 132) == errno.EPROTONOSUPPORT


def test_the_high_half_of_a_register_hides_no_other_namespace() -> None:
    assert judge("setns", 3, HIGH_HALF) == errno.EPERM
    assert judge("setns", 3, 0) == errno.EPERM
    assert judge("setns", 3, 0x08000000) is None


@pytest.mark.parametrize(("device", "error"), [(0, None), (1, None), (2, errno.EPERM)])
def test_a_socket_is_not_tied_to_a_device_for_all_that_it_sends(device: int, error: int | None) -> None:
    option = place(LOOPBACK + struct.pack("=I", device))
    assert judge("setsockopt", 3, 41, 50, option, 20) == error
    assert judge("setsockopt", 3, 41 | HIGH_HALF, 50, option, 20 | HIGH_HALF) == error


@pytest.mark.parametrize(("device", "error"), [(0, None), (1, None), (2, errno.EPERM)])
def test_a_socket_is_not_tied_to_a_device_by_the_scope_of_its_address(device: int, error: int | None) -> None:
    own = address(LINK_LOCAL, device)
    assert judge("bind", 3, place(own), len(own)) == error
    assert judge("bind", 3, place(own), len(own), networks=parse_networks(["fe80::/10"])) is None


@pytest.mark.parametrize("kind", [50, 2])
@pytest.mark.parametrize("others", [0, 300])
def test_a_datagram_goes_by_no_device_of_its_own(kind: int, others: int) -> None:
    harmless = ancillary(41, 67, struct.pack("=i", 0)) * others
    leads = harmless + ancillary(41, kind, LOOPBACK + struct.pack("=I", 2))
    stays = harmless + ancillary(41, kind, LOOPBACK + struct.pack("=I", 1))
    assert judge("sendmsg", 3, message(leads), 0) == errno.ENETUNREACH
    assert judge("sendmsg", 3, message(stays), 0) is None


def test_ancillary_data_that_are_too_long_to_read_are_not_believed() -> None:
    assert judge("sendmsg", 3, message(bytes(1 << 20)), 0) == errno.ENETUNREACH


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[None]:
    before = Path.cwd()
    folder = tmp_path / "nscd"
    folder.mkdir()
    os.chdir(folder)
    yield
    os.chdir(before)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "path", ["socket", "./socket", "../nscd//socket", "/run/nscd/./socket", "//run//nscd//socket"]
)
def test_a_name_daemon_is_not_found_by_another_spelling(path: str) -> None:
    assert judge("connect", 3, place(unix(path)), len(unix(path))) == errno.ENOENT


def test_a_name_daemon_is_not_found_by_a_link(tmp_path: Path) -> None:
    link = tmp_path / "s"
    link.symlink_to("/run/nscd/socket")
    assert judge("connect", 3, place(unix(str(link))), len(unix(str(link)))) == errno.ENOENT
    link.unlink()
    # The same path, and no such daemon any more.
    assert judge("connect", 3, place(unix(str(link))), len(unix(str(link)))) is None


@pytest.mark.parametrize(
    ("theirs", "ours", "held"),
    [
        ("", [], True),
        ("10.0.0.0/8", [], False),
        ("10.1.0.0/16", ["10.0.0.0/8"], True),
        ("nonsense", ["10.0.0.0/8"], False),
    ],
)
def test_another_launch_is_believed_that_reaches_no_further(
    theirs: str, ours: list[str], held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = "bundler.offline.kernel.other_programs._read_status"
    figures = {"Seccomp_filters": [1, 0], "PPid": [0]}
    monkeypatch.setattr(status, lambda process, name, unknown: figures[name].pop(0) if figures[name] else 0)
    environment = {"BUNDLE_ISOLATION": "seccomp", "BUNDLE_ALLOW_NET": theirs}
    code = "print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            # A process that has only just become its program shows no variables yet.
            assert other.stdout is not None and other.stdout.readline() == b"\n"
            assert is_held(other.pid, os.getpid(), parse_networks(ours)) == held
        finally:
            other.kill()
