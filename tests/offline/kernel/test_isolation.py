"""bundler.offline.kernel.isolation: what a namespace leaves a process, and what happens without one."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.errors import OfflineError
from bundler.offline.kernel import isolation
from bundler.offline.kernel.isolation import choose
from bundler.offline.kernel.networks import parse_networks
from bundler.offline.kernel.resolver import make_resolver_files
from bundler.offline.launch.launch import Completed, run_isolated
from tests.offline.conftest import OUTSIDE, needs_landlock, needs_netns, needs_seccomp
from tests.support.messages import Told
from tests.support.process import run_python

# Straight to the kernel: Python's audit hook does not see it, like any compiled library.
RAW_CONNECT = f"""
import ctypes, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
address = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s", 80, socket.inet_aton("{OUTSIDE}")) + bytes(8)
assert libc.connect(fd, address, len(address)) == -1
print(os.strerror(ctypes.get_errno()))
"""


def isolated(*argv: str | Path, out: Path | None = None, isolate: str = "netns") -> Completed:
    words = [str(word) for word in argv]
    if out is None:
        return run_isolated(words, env=os.environ, isolate=isolate)  # type: ignore[arg-type]
    with out.open("wb") as stream:
        return run_isolated(words, env=os.environ, isolate=isolate, stdout=stream)  # type: ignore[arg-type]


@needs_netns
def test_compiled_code_finds_no_route_and_the_kernel_counts_it(tmp_path: Path) -> None:
    done = isolated(sys.executable, "-c", RAW_CONNECT, out=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "Network is unreachable\n"
    assert (done.exit_code, done.refused, done.kernel_refused, done.attempts) == (0, (), 1, 1)


@needs_netns
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("host", [OUTSIDE, "[2001:db8::1]", "huggingface.co"])
def test_an_executed_tool_is_refused_by_address_and_by_name(host: str) -> None:
    done = isolated("curl", "--silent", "--max-time", "20", f"http://{host}/")
    assert done.exit_code in (6, 7)
    assert done.kernel_refused


@needs_netns
def test_the_guard_and_the_kernel_never_count_one_attempt_twice() -> None:
    code = f"import socket; socket.socket().connect(('{OUTSIDE}', 80))"
    done = isolated(sys.executable, "-c", code)
    assert (len(done.refused), done.kernel_refused) == (1, 0)


@needs_netns
def test_loopback_and_the_own_host_stay_in_reach() -> None:
    code = """
import socket
addresses = ["127.0.0.1", "::1", socket.gethostname()]
for host in addresses:
    family = socket.getaddrinfo(host, 0)[0][0]
    server = socket.create_server((host, 0), family=family)
    client = socket.create_connection((host, server.getsockname()[1]))
    # What torch does for each peer: a look-up by the address.
    socket.getnameinfo(client.getpeername(), 0)
"""
    done = isolated(sys.executable, "-c", code)
    assert (done.exit_code, done.attempts) == (0, 0)


@needs_netns
def test_own_addresses_of_the_machine_are_on_loopback_inside() -> None:
    addresses = [str(a) for a in choose("netns").own_addresses if a.version == 4]
    if not addresses:
        pytest.skip("this machine has no address besides loopback")
    done = isolated(sys.executable, "-c", f"import socket; socket.create_server(({addresses[0]!r}, 0))")
    assert (done.exit_code, done.attempts) == (0, 0)


@needs_netns
def test_files_keep_their_owner_and_the_outside_keeps_its_files(tmp_path: Path) -> None:
    before = Path("/etc/hosts").read_bytes()
    done = isolated("sh", "-c", f"touch {tmp_path}/made && grep -q 203.0.113 /etc/resolv.conf")
    assert (tmp_path / "made").stat().st_uid == os.getuid()
    assert Path("/etc/hosts").read_bytes() == before
    assert done.exit_code in (0, 2)  # 2: a machine without /etc/resolv.conf


@needs_netns
def test_this_process_keeps_its_network() -> None:
    before = Path("/proc/self/ns/net").readlink()
    isolated("true")
    assert Path("/proc/self/ns/net").readlink() == before


@needs_netns
@pytest.mark.skipif(
    os.getuid() != 0, reason="only root can become another user; the other tests run as one already"
)
def test_an_ordinary_user_gets_a_namespace_and_stays_who_he_is() -> None:
    if ctypes.CDLL(None).prctl(23, 21, 0, 0, 0) != 1:  # PR_CAPBSET_READ, CAP_SYS_ADMIN
        pytest.skip("this root may not do what root may")
    # All imports before the change of user, who may not be allowed to read the interpreter's files.
    code = """
        import ctypes, os, shutil, tempfile
        from pathlib import Path
        from bundler.offline.kernel.isolation import choose
        from bundler.offline.launch.launch import run_isolated
        choose("netns")
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: else /proc/self stays root's until an exec
        folder = Path(tempfile.mkdtemp())
        script = 'id -u > "$0/uid"; ls /proc/self/ns/net > /dev/null; grep -c : /proc/net/dev > "$0/devices"'
        done = run_isolated(["sh", "-c", script, str(folder)], env=os.environ, isolate="netns")
        made = folder / "uid"
        print(done.isolation.kind, done.isolation.names, made.read_text().strip(), made.stat().st_uid)
        print((folder / "devices").read_text().strip())
        shutil.rmtree(folder)
    """
    done = run_python(code)
    assert done.stdout.split() == ["netns", "True", "65534", "65534", "1"]


def test_without_namespaces_auto_says_why_and_goes_on_with_the_guard(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    _no_namespaces(monkeypatch)
    _no_filters(monkeypatch)
    chosen = choose("auto")
    assert chosen.kind == "none"
    told("isolation", "nothing of the kernel can be had", chosen.detail)


def test_without_namespaces_asking_for_one_by_name_is_an_error(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    _no_namespaces(monkeypatch)
    with pytest.raises(OfflineError) as caught:
        choose("netns")
    assert caught.value.exit_code == 11
    told("isolation", "a namespace is asked for and cannot be had", caught.value)


def test_a_namespace_that_is_to_reach_a_network_is_no_matter_for_an_administrator(told: Told) -> None:
    with pytest.raises(OfflineError) as caught:
        choose("netns", ["10.0.0.0/8"])
    assert caught.value.exit_code == 11
    told("isolation", "a namespace is to reach a network", caught.value)


@needs_netns
def test_a_kernel_that_refuses_user_namespaces_is_found_out_by_trying() -> None:
    """The real refusal: a process that may neither make one nor give itself room for one."""
    if not shutil.which("unshare"):
        pytest.skip("unshare(1) is not installed")
    code = (
        "import sys; from bundler.errors import OfflineError\n"
        "from bundler.offline.kernel.isolation import choose\n"
        "print(choose('auto').kind)\n"
        "try: choose('netns')\n"
        "except OfflineError as error: print(error.exit_code)\n"
    )
    # In a user namespace whose limit is none, with the capabilities dropped, nobody can make another.
    limit = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", limit + '"$@"', "sh", sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True)
    if not done.stdout:
        pytest.skip(f"this machine cannot set the limit: {done.stderr[-200:]}")
    kind, code = done.stdout.split()
    assert kind != "netns" and code == "11"


def test_none_is_taken_at_its_word() -> None:
    assert choose("none").kind == "none"
    done = isolated("true", isolate="none")
    assert (done.exit_code, done.kernel_refused, done.attempts) == (0, None, 0)


def test_names_inside_are_the_users_plus_the_own_host() -> None:
    texts = make_resolver_files(
        "10.0.0.9 nas\n", "passwd: files sss\nhosts: files resolve dns\n", "node7", ["10.0.0.7"]
    )
    assert texts["/etc/hosts"].startswith("10.0.0.9 nas\n")
    assert "10.0.0.7 node7\n" in texts["/etc/hosts"]
    assert texts["/etc/nsswitch.conf"] == "passwd: files sss\nhosts: files dns\n"


def test_addresses_of_small_networks_have_themselves_as_names_and_large_ones_none() -> None:
    peers = parse_networks(["10.1.0.2", "fd00::/127", "10.2.0.0/16", "127.0.0.0/8"])
    hosts = make_resolver_files("", "", "node7", [], peers)["/etc/hosts"].splitlines()
    named = ["10.1.0.2 10.1.0.2", "::ffff:10.1.0.2 10.1.0.2", "fd00:: fd00::", "fd00::1 fd00::1"]
    assert hosts[-4:] == named
    assert not any("10.2." in line for line in hosts)


def _no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted", "unshare")

    monkeypatch.setattr(isolation, "enter_network_namespace", refuse)


def _no_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation.seccomp_filter, "why_not", lambda: "no filter")
    monkeypatch.setattr(isolation.landlock, "why_not", lambda: "no Landlock")


# What auto takes


@needs_netns
def test_auto_takes_a_namespace_while_no_other_machine_is_asked_for() -> None:
    assert choose("auto").kind == "netns"
    assert choose("auto", ["127.0.0.0/8", "::1"]).kind == "netns"


@needs_seccomp
def test_auto_takes_the_filter_for_networks_of_other_machines_and_says_why() -> None:
    chosen = choose("auto", ["10.0.0.0/8"])
    assert chosen.kind == "seccomp"
    assert "no netns: a network namespace cannot reach 10.0.0.0/8" in chosen.detail


@needs_seccomp
def test_auto_parts_no_launches_that_are_one_job() -> None:
    chosen = choose("auto", tasks_on_node=2)
    assert chosen.kind == "seccomp"
    assert "the 2 launches of this job step on this node would not find each other" in chosen.detail


@needs_netns
def test_a_namespace_asked_for_by_name_parts_them_and_says_so() -> None:
    chosen = choose("netns", tasks_on_node=2)
    assert chosen.kind == "netns"
    assert "would not find each other" in chosen.detail


@needs_seccomp
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a user a group")
def test_a_user_with_other_groups_gives_them_files_and_a_namespace_by_name_says_that_it_cannot() -> None:
    code = """
        import ctypes, os, tempfile
        from bundler.offline.kernel.isolation import choose
        from bundler.offline.launch.launch import run_isolated
        choose("netns")
        os.setgroups([54321]); os.setgid(65534); os.setuid(65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: else /proc/self stays root's until an exec
        with tempfile.NamedTemporaryFile() as file:
            for kind in ("auto", "netns"):
                done = run_isolated(["chgrp", "54321", file.name], env=os.environ, isolate=kind)
                group, said = os.fstat(file.fileno()).st_gid, "chgrp" in done.isolation.detail
                print(done.isolation.kind, done.exit_code, group, said)
    """
    done = run_python(code)
    assert done.stdout.splitlines() == ["seccomp 0 54321 True", "netns 1 54321 True"]


@needs_landlock
def test_without_namespace_and_filter_auto_takes_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_namespaces(monkeypatch)
    monkeypatch.setattr(isolation, "problem_with_supervision", lambda *_: "pidfd_getfd: Operation not permitted")
    chosen = choose("auto")
    assert chosen.kind == "landlock"
    assert "no seccomp: this machine refuses a supervised filter: pidfd_getfd" in chosen.detail


@pytest.mark.parametrize("kind", ["seccomp", "landlock"])
def test_a_kind_asked_for_by_name_and_not_available_is_an_error(
    monkeypatch: pytest.MonkeyPatch, kind: str, told: Told
) -> None:
    _no_filters(monkeypatch)
    with pytest.raises(OfflineError) as caught:
        choose(kind)  # type: ignore[arg-type]
    assert caught.value.exit_code == 11
    told("isolation", f"{kind} is asked for and cannot be had", caught.value)


def test_a_namespace_asked_for_together_with_other_machines_is_an_error(told: Told) -> None:
    with pytest.raises(OfflineError) as caught:
        choose("netns", ["10.0.0.0/8"])
    assert caught.value.exit_code == 11
    told("isolation", "a namespace is to reach a network", caught.value)


def test_an_architecture_without_a_filter_says_so(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(OfflineError) as caught:
        choose("seccomp")
    assert caught.value.exit_code == 11
    told("isolation", "an architecture without a filter", caught.value)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "node7", ""])
def test_what_is_no_network_is_refused(text: str, told: Told) -> None:
    with pytest.raises(OfflineError) as caught:
        choose("none", [text])
    assert caught.value.exit_code == 11
    told("isolation", f"the network {text!r}", caught.value)
