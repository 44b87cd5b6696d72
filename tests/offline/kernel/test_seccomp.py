"""--isolate seccomp: every way by which a socket can reach another machine, and those that must stay open."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bundler.offline.kernel import seccomp
from bundler.offline.kernel.seccomp import problem_with_supervision
from bundler.offline.kernel.supervisor import Supervisor, supervised_kind
from bundler.offline.launch.launch import Completed, run_isolated
from tests.offline.conftest import OUTSIDE, PYTHON, BundleRun, needs_netns, needs_seccomp
from tests.support.messages import Told
from tests.support.process import script

pytestmark = needs_seccomp

x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="calls of x86-64")

# C calls, which Python's audit hook does not see; `failed` prints the error of the last one.
C = f"""
import ctypes, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def sockaddr(host, port=80):
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s", port, socket.inet_aton(host)) + bytes(8)
OUTSIDE = sockaddr("{OUTSIDE}")
def failed(result):
    print(os.strerror(ctypes.get_errno()) if result == -1 else "passed", flush=True)
stream = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
datagram = libc.socket(socket.AF_INET, socket.SOCK_DGRAM, 0)
"""
UNREACHABLE = "Network is unreachable\n"


def supervised(code: str, tmp_path: Path, *allow_net: str) -> tuple[Completed, str]:
    """Run Python code without a guard under the filter."""
    with (tmp_path / "out").open("wb") as stream:
        argv = [sys.executable, "-S", "-c", C + textwrap.dedent(code)]
        done = run_isolated(argv, env=os.environ, isolate="seccomp", allow_net=allow_net, stdout=stream)
    return done, (tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("failed(libc.connect(stream, OUTSIDE, 16))", "connect"),
        ("failed(libc.connect(datagram, OUTSIDE, 16))", "connect"),
        ("failed(libc.sendto(datagram, b'x', 1, 0, OUTSIDE, 16))", "sendto"),
        # TCP Fast Open connects while it sends.
        ("failed(libc.sendto(stream, b'x', 1, 0x20000000, OUTSIDE, 16))", "sendto"),
        (
            """
            name = ctypes.create_string_buffer(OUTSIDE, 16)
            header = struct.pack("=QI4xQQQQi4x", ctypes.addressof(name), 16, 0, 0, 0, 0, 0)
            failed(libc.sendmsg(datagram, header, 0))
            """,
            "sendmsg",
        ),
        (
            # The second of two messages is for the outside.
            """
            inside, name = (ctypes.create_string_buffer(a, 16) for a in (sockaddr("127.0.0.1"), OUTSIDE))
            headers = b"".join(
                struct.pack("=QI4xQQQQi4xI4x", ctypes.addressof(a), 16, 0, 0, 0, 0, 0, 0) for a in (inside, name)
            )
            failed(libc.sendmmsg(datagram, headers, 2, 0))
            """,
            "sendmmsg",
        ),
        # Without a family it is taken for an address of IPv4.
        ("failed(libc.sendto(datagram, b'x', 1, 0, bytes(2) + OUTSIDE[2:], 16))", "sendto"),
        # What stands above 32 bits in the register of a length means nothing to the kernel.
        ("failed(libc.syscall(42, stream, OUTSIDE, ctypes.c_long((1 << 32) + 16)))", "connect"),
    ],
)
def test_each_call_that_reaches_outside_is_refused_and_counted(tmp_path: Path, code: str, call: str) -> None:
    if "syscall(42" in code and platform.machine() != "x86_64":
        pytest.skip("a call of x86-64")
    done, out = supervised(code, tmp_path)
    assert out == UNREACHABLE
    (denial,) = done.denials
    assert (denial.call, denial.target, denial.count) == (call, f"{OUTSIDE}:80", 1)
    assert denial.argv[0] == sys.executable
    assert (done.kernel_refused, done.attempts) == (1, 1)


def test_ipv6_and_its_forms_of_ipv4_are_judged(tmp_path: Path) -> None:
    done, out = supervised(
        f"""
        six = libc.socket(socket.AF_INET6, socket.SOCK_STREAM, 0)
        for host in ("2001:db8::1", "::ffff:{OUTSIDE}"):
            address = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", 443, 0)
            failed(libc.connect(six, address + socket.inet_pton(socket.AF_INET6, host) + bytes(4), 28))
        """,
        tmp_path,
    )
    assert out == UNREACHABLE * 2
    assert [d.target for d in done.denials] == ["[2001:db8::1]:443", f"{OUTSIDE}:443"]


def test_what_stays_on_the_machine_passes_uncounted(tmp_path: Path) -> None:
    done, out = supervised(
        """
        import array, tempfile
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            server = socket.create_server((host, 0), family=family)
            client = socket.create_connection(server.getsockname()[:2])
            client.sendmsg([b"x"])
            client.sendall(b"y")
            with socket.socket(family, socket.SOCK_DGRAM) as udp:
                udp.sendto(b"x", (host, 9))
                udp.connect((host, 9))
        path = tempfile.mkdtemp() + "/socket"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen()
        unix = socket.socket(socket.AF_UNIX)
        unix.connect(path)
        socket.send_fds(unix, [b"x"], [0])
        socket.if_nameindex(), socket.getaddrinfo("127.0.0.1", 80)
        print("passed")
        """,
        tmp_path,
    )
    assert out == "passed\n"
    assert (done.exit_code, done.denials) == (0, ())


def test_given_networks_pass_and_others_do_not(tmp_path: Path) -> None:
    # A datagram socket connects without a packet.
    code = "for host in ('10.1.2.3', '10.2.0.1'): failed(libc.connect(datagram, sockaddr(host), 16))"
    done, out = supervised(code, tmp_path, "10.1.0.0/16")
    assert out.splitlines()[1] == UNREACHABLE.strip()
    assert [denial.target for denial in done.denials] == ["10.2.0.1:80"]


def test_threads_forked_and_executed_children_are_refused_and_named(tmp_path: Path) -> None:
    done, out = supervised(
        f"""
        import threading
        attempt = lambda port: failed(libc.connect(stream, sockaddr("{OUTSIDE}", port), 16))
        thread = threading.Thread(target=attempt, args=(1,))
        thread.start(); thread.join()
        if os.fork() == 0:
            attempt(2)
            if os.fork() == 0:
                attempt(3)  # and its parent goes: an orphan
                os._exit(0)
            os.wait()
            os._exit(0)
        os.wait()
        program = {C + "failed(libc.connect(stream, OUTSIDE, 16))"!r}
        os.execv(sys.executable, [sys.executable, "-S", "-c", program])
        """,
        tmp_path,
    )
    assert out == UNREACHABLE * 4
    assert [denial.target.partition(":")[2] for denial in done.denials] == ["1", "2", "3", "80"]
    assert len({denial.pid for denial in done.denials}) == 3


def test_an_orphan_is_judged_as_long_as_the_launch_lasts(tmp_path: Path) -> None:
    done, out = supervised(
        """
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while os.getppid() == os.getsid(0): pass
                failed(libc.connect(datagram, sockaddr("127.0.0.1"), 16))
                failed(libc.connect(stream, OUTSIDE, 16))
                os.close(writer)
                os._exit(0)
            os._exit(0)
        os.close(writer)
        os.read(reader, 1)
        """,
        tmp_path,
    )
    assert out == "passed\n" + UNREACHABLE
    assert done.kernel_refused == 1


def test_who_outlives_the_launch_gets_nowhere(tmp_path: Path) -> None:
    """Without a supervisor the kernel answers itself, for loopback too."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    code = f"""
        go, gone = os.pipe()
        if os.fork() == 0:
            os.setsid()
            os.close(gone)
            os.read(go, 1)
            while os.path.exists("{tmp_path}/running"): pass
            libc.connect(stream, OUTSIDE, 16)
            os.write({writer}, os.strerror(ctypes.get_errno()).encode())
            os._exit(0)
    """
    (tmp_path / "running").touch()
    try:
        supervised(code, tmp_path)
    finally:
        (tmp_path / "running").unlink()
    os.close(writer)
    assert os.read(reader, 100) == b"Function not implemented"
    os.close(reader)


def test_io_uring_is_not_there_and_odd_families_are_refused(tmp_path: Path) -> None:
    done, out = supervised(
        """
        failed(libc.syscall(425, 8, bytes(120)))
        failed(libc.socket(17, socket.SOCK_RAW, 0))
        """,
        tmp_path,
    )
    assert out == "Function not implemented\nAddress family not supported by protocol\n"
    assert [denial.target for denial in done.denials] == ["a socket of AF_PACKET"]


@x86_64_only
def test_calls_by_their_32_bit_and_x32_numbers_are_judged_alike(tmp_path: Path) -> None:
    done, out = supervised(
        """
        import mmap
        MAP_32BIT = 0x40
        page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT, 7)
        # push rbx; eax = edi; ebx = esi; r8d = ecx; ecx = edx; edx = r8d; int 0x80; pop rbx; ret
        page[:18] = bytes.fromhex("5389f889f34189c889d14489c2cd805bc3") + bytes(1)
        place = ctypes.addressof(ctypes.c_char.from_buffer(page))
        call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int] * 4)(place)
        page[256:272] = OUTSIDE
        page[512:524] = struct.pack("=III", stream, place + 256, 16)
        inside = sockaddr("127.0.0.1")
        print(-call(362, stream, place + 256, 16))  # connect
        print(-call(102, 3, place + 512, 0))        # socketcall: connect
        page[256:272] = inside
        print(-call(362, datagram, place + 256, 16))
        page[512:524] = struct.pack("=III", socket.AF_UNIX, socket.SOCK_STREAM, 0)
        unix = call(102, 1, place + 512, 0)         # socketcall: socket
        page[512:524] = struct.pack("=III", socket.AF_INET, socket.SOCK_DGRAM, 0)
        print(unix > 0, call(102, 1, place + 512, 0) > 0)
        page[256:264] = socket.inet_aton("224.0.0.251") + bytes(4)
        page[512:532] = struct.pack("=IIIII", datagram, 0, 35, place + 256, 8)
        print(-call(102, 14, place + 512, 0))       # socketcall: setsockopt
        failed(libc.syscall(0x40000000 + 42, stream, OUTSIDE, 16))
        """,
        tmp_path,
    )
    if not out:
        pytest.skip("this kernel runs no 32-bit calls")
    assert out.splitlines() == ["101", "101", "0", "True True", "19", "Function not implemented"]
    assert [(denial.call, denial.count) for denial in done.denials] == [("connect", 2), ("setsockopt", 1)]


def test_an_address_that_cannot_be_read_is_the_callers_bug(tmp_path: Path) -> None:
    done, out = supervised("failed(libc.connect(stream, ctypes.c_void_p(8), 16))", tmp_path)
    assert (out, done.denials) == ("Bad address\n", ())


def test_descriptors_are_taken_of_what_a_launch_holds_and_of_nobody_else(home: Path, tmp_path: Path) -> None:
    words = [script("bundle"), "run", "--hf-home", home, "--isolate", "seccomp", "--", "sh", "-c", "echo $$; cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as other:
        assert other.stdout is not None
        _take_descriptors(tmp_path, other=int(other.stdout.readline()))
        other.communicate()


def _take_descriptors(tmp_path: Path, *, other: int) -> None:
    code = f"""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reader, 1)
            os._exit(0)
        for process in (child, {other}, os.getppid(), {os.getppid()}):
            failed(libc.syscall(438, os.pidfd_open(process), 0, 0))
        failed(libc.syscall(438, 77, 0, 0))
        os.write(writer, b".")
        os.wait()
    """
    done, out = supervised(code, tmp_path)
    assert out == 2 * "passed\n" + 2 * "Operation not permitted\n" + "Bad file descriptor\n"
    assert {denial.target for denial in done.denials} == {
        f"a descriptor of process {process}, which is in no launch that reaches as far"
        for process in (os.getpid(), os.getppid())
    }


def test_daemons_that_look_names_up_are_not_there(tmp_path: Path) -> None:
    done, out = supervised(
        """
        unix = libc.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0)
        for path in (b"/run/systemd/resolve/io.systemd.Resolve", b"/var/run/nscd/socket"):
            failed(libc.connect(unix, struct.pack("=H", socket.AF_UNIX) + path, 110))
        """,
        tmp_path,
    )
    assert (out, done.denials) == ("No such file or directory\n" * 2, ())


def test_the_listener_does_not_reach_the_command(tmp_path: Path) -> None:
    """With it a program could answer for itself."""
    code = "print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) > 2][:-1])"
    _, out = supervised(code, tmp_path)
    assert "seccomp" not in out


def test_a_busy_program_is_judged_call_by_call(tmp_path: Path) -> None:
    code = "import concurrent.futures as c\n" + textwrap.dedent("""
        def attempt(_):
            sock = libc.socket(socket.AF_INET, socket.SOCK_DGRAM, 0)
            inside = libc.connect(sock, sockaddr("127.0.0.1"), 16)
            return inside, libc.connect(sock, OUTSIDE, 16), os.close(sock)
        with c.ThreadPoolExecutor(8) as pool:
            print(set(pool.map(attempt, range(500))))
    """)
    done, out = supervised(code, tmp_path)
    assert (out, done.kernel_refused) == ("{(0, -1, None)}\n", 500)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_strict_reports_an_executed_tool_with_its_target(bundle_run: BundleRun) -> None:
    words = ["sh", "-c", f"curl --silent http://{OUTSIDE}/; true"]
    ran = bundle_run(*words, options=("--isolate", "seccomp", "--strict"))
    assert (ran.code, ran.attempts) == (11, (0, 1))
    (denial,) = ran.report["attempts"]["kernel_refused"]  # type: ignore[index]
    assert (denial["target"], denial["count"]) == (f"{OUTSIDE}:80", 1)
    assert denial["argv"] == ["curl", "--silent", f"http://{OUTSIDE}/"]
    assert f"1 x {OUTSIDE}:80, by process {denial['pid']}: curl" in ran.err


@pytest.mark.skipif(importlib.util.find_spec("hf_xet") is None, reason="hf_xet is not installed")
def test_a_rust_client_of_its_own_accord_is_refused(bundle_run: BundleRun, tmp_path: Path) -> None:
    code = f"""
import hf_xet
info = hf_xet.PyXetDownloadInfo({str(tmp_path / "file")!r}, "0" * 64, 1)
try:
    hf_xet.download_files([info], "http://{OUTSIDE}:8080", ("token", 9999999999), None, None)
except BaseException as error:
    print(type(error).__name__)
"""
    # By default it goes on trying for minutes.
    patience = {"HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "1", "HF_XET_CLIENT_RETRY_BASE_DELAY": "1ms"}
    ran = bundle_run(PYTHON, "-c", code, options=("--isolate", "seccomp"), env=patience)
    assert ran.out, ran.err
    targets = {denial["target"] for denial in ran.report["attempts"]["kernel_refused"]}  # type: ignore[index]
    assert f"{OUTSIDE}:8080" in targets


# Launches in launches


def test_an_inner_launch_is_held_and_counted_by_the_outer_one(bundle_run: BundleRun, tmp_path: Path) -> None:
    inner = tmp_path / "inner.json"
    options = ("--isolate", "seccomp", "--allow-net", "10.1.0.0/16")
    words = [script("bundle"), "run", "--report", inner, "--isolate", "seccomp", "--", PYTHON, "-S", "-c"]
    ran = bundle_run(*words, C + "failed(libc.connect(stream, OUTSIDE, 16))", options=options)
    assert (ran.out, ran.attempts) == (UNREACHABLE, (0, 1)), ran.err
    report = json.loads(inner.read_text())
    assert "of the outer launch" in report["isolation"]["detail"]
    assert report["attempts"]["kernel"] is None


def test_an_inner_launch_cannot_widen_the_outer_one(bundle_run: BundleRun, told: Told) -> None:
    words = [script("bundle"), "run", "--isolate", "seccomp", "--allow-net", "10.0.0.0/8", "--", "true"]
    ran = bundle_run(*words, options=("--isolate", "seccomp", "--allow-net", "10.1.0.0/16"))
    assert ran.code == 11
    (line,) = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    # Behind what was asked for stand this machine's own addresses.
    words = re.sub(r"10\.1\.0\.0/16(, [\w.:]+)*", "10.1.0.0/16", line)
    told("launch", "an inner launch wants more than the outer one", words)


@needs_netns
def test_a_namespace_fits_into_a_filter(bundle_run: BundleRun) -> None:
    words = [script("bundle"), "run", "--isolate", "netns", "--", "true"]
    assert bundle_run(*words, options=("--isolate", "seccomp", "--strict")).code == 0


@pytest.mark.skipif(tuple(map(int, platform.release().split(".")[:2])) < (6, 6), reason="it takes Linux 6.6")
def test_a_caller_and_its_supervisor_share_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Watched(Supervisor):
        def start(self) -> None:
            made.append(self.shares_core)
            super().start()

    monkeypatch.setattr(seccomp, "Supervisor", Watched)
    assert problem_with_supervision("seccomp") is None
    assert made == [True]


def test_outside_a_launch_nobody_answers_for_a_supervisor() -> None:
    assert supervised_kind() is None
