"""Daemons of this machine that look names up for others, by the UNIX sockets on which they listen.

A program asks them without any packet of its own, and they ask outside: from a network namespace too, and past a filter
that judges addresses of the internet. So a launch does not let them be found:

* in a mount namespace (`hide`) their folders are empty: a daemon that begins or ends meanwhile changes nothing there.
  A folder that the system makes only later is not hidden;
* where addresses are judged (`is_name_daemon`), by the end of the path.

The system's D-Bus is among them: systemd-resolved and avahi answer there too. sssd and nslcd know users and groups
also, without which a program may not learn its own name: they are hidden only where /etc/nsswitch.conf has them
answer for hosts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

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


def is_name_daemon(path: str) -> bool:
    """Tell whether the UNIX socket at `path` is that of a daemon that looks names up."""
    ends: tuple[str, ...] = _SOCKETS
    for _, more in _read_host_services():
        ends += more
    return path.endswith(ends)


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
