"""Programs of this machine, outside of a launch, by which one of the launch could reach further than it may.

Daemons look names up for others, on UNIX sockets. A program asks them without any packet of its own, and they ask
outside: from a network namespace too, and past a filter that judges addresses of the internet. So a launch does not let
them be found:

* in a mount namespace (`hide`) their folders are empty: a daemon that begins or ends meanwhile changes nothing there.
  A folder that the system makes only later is not hidden;
* where addresses are judged (`is_name_daemon`), by the end of the path, as it is written and as it is resolved.

The system's D-Bus is among them: systemd-resolved and avahi answer there too. sssd and nslcd know users and groups
also, without which a program may not learn its own name: they are hidden only where /etc/nsswitch.conf has them
answer for hosts.

Any other program may have sockets, and who may debug it can take them (pidfd_getfd). Of what is held as well that is
let be (`is_held`), since ranks of a job share memory so: of the launch itself, and of others in the same network
namespace that reach no further, whose programs have both in their environment. A launcher keeps orphans among its own
children as long as the launch lasts, so that all of the launch is below it. But whoever executed the launcher may have
left it children of their own, and the launcher itself is not held: these have fewer filters. See proc_pid_status(5),
proc_pid_fdinfo(5), proc_pid_environ(5).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bundler.errors import OfflineError
from bundler.offline.kernel.networks import Network, parse_networks
from bundler.offline.variables import ALLOW_NET, ISOLATION

# Their folders below /run, and how the paths of their sockets end.
_FOLDERS = ("nscd", "systemd/resolve", "avahi-daemon", "dbus")
_SOCKETS = (
    "/nscd/socket",
    "/io.systemd.Resolve",
    "/io.systemd.Resolve.Monitor",
    "/avahi-daemon/socket",
    "/dbus/system_bus_socket",
)
# By the name of the service in nsswitch.conf(5): the folder, and the ends of the paths.
_OF_HOSTS = {
    "sss": ("/var/lib/sss/pipes", ("/sss/pipes/nss",)),
    "ldap": ("/run/nslcd", ("/nslcd/socket",)),
    "wins": ("/run/samba/winbindd", ("/winbindd/pipe",)),
}
_LARGEST_FILE_BYTES = 65536


def is_name_daemon(path: str, thread: int) -> bool:
    """Tell whether the UNIX socket at `path` is that of a daemon that looks names up.

    Args:
        path: As the program names it.
        thread: The thread that does.
    """
    ends: tuple[str, ...] = _SOCKETS
    for _, more in _read_host_services():
        ends += more
    if not path.startswith("/"):
        with contextlib.suppress(OSError):
            path = os.path.join(os.readlink(f"/proc/{thread}/cwd"), path)  # noqa: PTH115, PTH118 -- at each connect
    return os.path.normpath(path).endswith(ends) or os.path.realpath(path).endswith(ends)


def hide(mount_empty: Callable[[str], None]) -> None:
    """Have the folders of these daemons be empty, but for their plain files: /etc/resolv.conf is often a link to one.

    Args:
        mount_empty: Mounts an empty file system on a folder.
    """
    folders = [Path(root, name) for root in ("/run", "/var/run") for name in _FOLDERS]
    folders += [Path(folder) for folder, _ in _read_host_services()]
    for folder in dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()):
        kept = {path.name: path.read_bytes() for path in folder.iterdir() if _is_small_file(path)}
        mount_empty(str(folder))
        for name, content in kept.items():
            (folder / name).write_bytes(content)


def _is_small_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.is_file() and path.stat().st_size <= _LARGEST_FILE_BYTES
    return False


def _read_host_services() -> list[tuple[str, tuple[str, ...]]]:
    """Return those of `_OF_HOSTS` that this machine has answer for hosts."""
    with contextlib.suppress(OSError):
        text = Path("/etc/nsswitch.conf").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"(?m)^\s*hosts:(.*)", text)
        words = found[1].split() if found else []
        return [_OF_HOSTS[word] for word in words if word in _OF_HOSTS]
    return []


def find_owner(thread: int, pidfd: int) -> int | None:
    """Return the process that a descriptor of a thread's stands for; None if it stands for none.

    Raises:
        OSError: This process may not look.
    """
    try:
        lines = Path(f"/proc/{thread}/fdinfo/{pidfd & 0xFFFFFFFF}").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return None
    found = next((int(line.removeprefix("Pid:")) for line in lines if line.startswith("Pid:")), None)
    # -1: it has ended.
    return None if found is None or found < 0 else found


def is_held(process: int, thread: int, networks: Sequence[Network]) -> bool:
    """Tell whether a process is one of the launch, or of another; one that cannot be seen from here is not.

    Args:
        process: The process.
        thread: The one of the launch that asks.
        networks: Which ones the launch may reach.
    """
    own = os.getpid()
    try:
        if process == own or _read_status(process, "Seccomp_filters", 1) <= _read_status(
            own, "Seccomp_filters", 0
        ):
            return False
        if _is_of_another(process, thread, networks):
            return True
        while process not in (0, own):
            process = _read_status(process, "PPid", 0)
    except OSError:
        return False
    return process == own


def _is_of_another(process: int, thread: int, networks: Sequence[Network]) -> bool:
    """Tell whether a process is of another launch whose sockets reach no further than this one's."""
    there, here = (Path(f"/proc/{one}/ns/net").readlink() for one in (process, thread))
    words = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    reach = b",".join(word.partition(b"=")[2] for word in words if word.startswith(f"{ALLOW_NET}=".encode()))
    try:
        others = parse_networks([text for text in reach.decode(errors="replace").split(",") if text])
    except OfflineError:
        return False
    is_inside = all(
        any(one.version == own.version and one.subnet_of(own) for own in networks)  # type: ignore[arg-type]
        for one in others
    )
    return there == here and is_inside and f"{ISOLATION}=seccomp".encode() in words


def _read_status(process: int, name: str, unknown: int) -> int:
    """Return a figure of a process; `unknown` where the kernel does not tell it (filters are told from Linux 5.9)."""
    lines = Path(f"/proc/{process}/status").read_text(errors="replace").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), unknown)
