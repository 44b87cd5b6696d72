"""Answer name look-ups inside a network namespace, and make the rest fail at once where the kernel counts it.

A network namespace alone leaves name look-ups odd: programs that look up their own machine or loopback (torchrun asks
for the name of every peer) would go to a name server that is out of reach, and where a daemon of the machine
resolves names (systemd-resolved, sssd), a program reaches it over a UNIX socket, and the daemon asks the outside.
So three files look different to the processes inside, and to no others:

    /etc/hosts          gains loopback, and this machine's name for each of its addresses
    /etc/nsswitch.conf  looks up hosts in that file, then by DNS; nobody else is asked
    /etc/resolv.conf    names a DNS server that has no route, so that every look-up of an outside name fails at once
                        and counts as one attempt

The folders of such daemons are empty inside, too (`other_programs`): glibc asks nscd before it reads nsswitch.conf, and
a program may know another by its path.

They are bind mounts in a mount namespace of the child, of files on a temporary file system that nothing else sees,
so nothing is left behind, whatever happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from bundler.offline.kernel import other_programs
from bundler.offline.kernel.networks import Address, Network

_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000
_MNT_DETACH = 2

# RFC 5737: an address for documentation, which belongs to nobody.
_NO_SERVER = "203.0.113.53"
# Every look-up reads the whole file: a fraction of a millisecond for so many lines.
_MAX_PEERS = 1024


def make_resolver_files(
    hosts: str, switch: str, node: str, addresses: Iterable[object], peers: Iterable[Network] = ()
) -> dict[str, str]:
    """Return path -> text of the files as a process inside must see them.

    Args:
        hosts: Text of /etc/hosts.
        switch: Text of /etc/nsswitch.conf.
        node: This machine's name.
        addresses: Its addresses.
        peers: Networks of other nodes. Torch asks for the name of each peer's address; for those of small networks the
            answer is the address itself, as where there is no name, without anybody being asked.
    """
    own = [str(address) for address in addresses] or ["127.0.0.1"]
    lines = [
        "127.0.0.1 localhost",
        "::1 localhost",
        "::ffff:127.0.0.1 localhost",
        *(f"{address} {node}" for address in own if node),
        *(f"{form} {peer}" for peer in _addresses_of(peers) for form in _forms(peer)),
    ]
    return {
        "/etc/hosts": hosts.rstrip("\n") + "\n" + "".join(f"{line}\n" for line in lines),
        "/etc/nsswitch.conf": re.sub(r"(?m)^\s*hosts:.*\n?", "", switch).rstrip("\n") + "\nhosts: files dns\n",
        "/etc/resolv.conf": f"nameserver {_NO_SERVER}\noptions attempts:1 timeout:1\n",
    }


def _addresses_of(networks: Iterable[Network]) -> Iterator[Address]:
    small = (n for n in networks if n.num_addresses <= _MAX_PEERS and not n.is_loopback)
    return itertools.islice(itertools.chain.from_iterable(small), _MAX_PEERS)


def _forms(address: Address) -> tuple[str, ...]:
    # A socket for both families shows an address of IPv4 in the second form.
    return (str(address), f"::ffff:{address}") if address.version == 4 else (str(address),)


def mount_resolver_files(
    addresses: Iterable[object], *, only_hosts: bool = False, peers: Iterable[Network] = ()
) -> None:
    """Put the files in place, and hide name daemons; the calling process must be in a mount namespace of its own.

    Args:
        addresses: Of this machine.
        only_hosts: Leave name servers as they are: they may be in reach.
        peers: Networks of other nodes.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    texts = make_resolver_files(
        _read("/etc/hosts"), _read("/etc/nsswitch.conf"), os.uname().nodename, addresses, peers
    )
    if only_hosts:
        texts = {"/etc/hosts": texts["/etc/hosts"]}
    # Mounts of the outside keep appearing inside, as automounters need; ours must not appear outside.
    _mount(None, "/", None, _MS_REC | _MS_SLAVE)
    # First: /etc/resolv.conf may lead to a file in one of these folders.
    other_programs.hide(lambda folder: _mount("tmpfs", folder, "tmpfs", 0, "mode=0755,size=1m"))
    scratch = tempfile.gettempdir()
    _mount("tmpfs", scratch, "tmpfs", 0, "mode=0755,size=1m")
    try:
        for number, (path, text) in enumerate(texts.items()):
            # A machine may do without one of them; then nothing reads it.
            if Path(path).exists():
                source = Path(scratch, str(number))
                source.write_text(text, encoding="utf-8", errors="surrogateescape")
                _mount(str(source), path, None, _MS_BIND)
    finally:
        # The files live on in their mounts.
        _unmount(scratch)


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    return ""


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [os.fsencode(text) if text is not None else None for text in (source, target, kind)]
    data = options.encode() if options is not None else None
    if libc.mount(*arguments, ctypes.c_ulong(flags), data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"mount on {target}")


def _unmount(target: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(target), _MNT_DETACH) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"unmount of {target}")
