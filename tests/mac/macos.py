"""Take from this interpreter what Linux has and macOS has not, so that code for both can be tried here.

    take_away(["os.sched_getaffinity", "/proc"])
    take_away(EVERYTHING)

It cannot be given back: call it in a child process. The table says what CPython 3.11 to 3.14 document as missing on
macOS, of what programs use. What behaves differently there (file names, the time of a file, sockets) is not imitated.
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import io
import os
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

# Module -> names; a star stands for all that begin so.
_MISSING = {
    # First: what others import looks for them.
    "select": "epoll EPOLL*",
    "os": (
        "sched_getaffinity sched_setaffinity sched_getparam sched_getscheduler sched_setscheduler posix_fadvise "
        "POSIX_FADV_* posix_fallocate fdatasync pipe2 O_PATH O_DIRECT O_TMPFILE O_NOATIME O_LARGEFILE O_RSYNC getxattr "
        "setxattr listxattr removexattr XATTR_* memfd_create MFD_* copy_file_range splice SPLICE_* eventfd* EFD_* "
        "getrandom GRND_* pidfd_open P_PIDFD setns unshare CLONE_* RWF_* setresuid setresgid getresuid getresgid "
        "waitid waitid_result ST_RELATIME ST_NODEV ST_NOEXEC ST_SYNCHRONOUS ST_WRITE ST_APPEND ST_MANDLOCK ST_NOATIME "
        "ST_NODIRATIME"
    ),
    "mmap": "MAP_POPULATE MAP_DENYWRITE MAP_EXECUTABLE MAP_STACK MAP_NONBLOCK MADV_DONTFORK MADV_DOFORK MADV_HUGEPAGE "
    "MADV_NOHUGEPAGE MADV_REMOVE MADV_MERGEABLE MADV_UNMERGEABLE MADV_DONTDUMP MADV_DODUMP MADV_HWPOISON",
    "socket": "AF_NETLINK NETLINK_* AF_PACKET PACKET_* AF_ALG ALG_* AF_CAN CAN_* AF_TIPC TIPC_* AF_BLUETOOTH AF_RDS "
    "SO_BINDTODEVICE SO_MARK SO_PEERCRED SO_PASSCRED SO_PRIORITY SO_DOMAIN SO_PROTOCOL SOCK_CLOEXEC SOCK_NONBLOCK "
    "TCP_USER_TIMEOUT TCP_QUICKACK TCP_CORK TCP_DEFER_ACCEPT MSG_CMSG_CLOEXEC MSG_NOSIGNAL MSG_MORE SCM_CREDENTIALS "
    "IP_TRANSPARENT IPPROTO_UDPLITE IPPROTO_MPTCP",
    "signal": "sigtimedwait sigwaitinfo pidfd_send_signal SIGPWR SIGSTKFLT SIGPOLL SIGCLD SIGRTMIN SIGRTMAX",
    "resource": "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RLIMIT_OFILE "
    "RUSAGE_THREAD",
    "fcntl": "F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_SEAL_* F_NOTIFY F_SETSIG F_GETSIG DN_* F_OFD_*",
    "time": "CLOCK_BOOTTIME CLOCK_TAI pthread_getcpuclockid",
}
EVERYTHING = (
    *(f"{module}.{name}" for module, names in _MISSING.items() for name in names.split()),
    "pwritev2",
    "libc",
    "/proc",
    # Last: it loads what must find the others gone.
    "platform",
)


def take_away(what: Iterable[str]) -> None:
    """Take away the named things.

    Each is ``module.name``; ``/proc``; ``platform``, which says that this is Linux; ``libc``, for functions of Linux's;
    or ``pwritev2``, for the flags of that call.
    """
    for name in what:
        if name == "/proc":
            _hide_proc()
        elif name == "platform":
            _rename_platform()
        elif name == "libc":
            _hide_functions_of_libc()
        elif name == "pwritev2":
            _forbid_write_flags()
        else:
            _remove(*name.split("."))


def _remove(module_name: str, pattern: str) -> None:
    beginning = pattern.removesuffix("*")
    # What a module of C defines is imported into one of Python.
    for name in (module_name, f"_{module_name}", "posix" if module_name == "os" else module_name):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for attribute in list(vars(module)):
            if attribute == pattern or (pattern.endswith("*") and attribute.startswith(beginning)):
                delattr(module, attribute)


def _rename_platform() -> None:
    # The standard library is loaded as that of Linux; only what asks later sees another system.
    for name in (
        "asyncio",
        "multiprocessing.context",
        "subprocess",
        "tempfile",
        "urllib.request",
        "uuid",
        "webbrowser",
    ):
        importlib.import_module(name)
    settings: Any = types.ModuleType("_scproxy")
    settings._get_proxies = settings._get_proxy_settings = dict
    sys.modules["_scproxy"] = settings
    sys.platform = "darwin"
    uname = os.uname()
    os.uname = lambda: os.uname_result(
        ("Darwin", uname.nodename, "24.0.0", "Darwin Kernel Version 24.0.0", "arm64")
    )


def _hide_functions_of_libc() -> None:
    class Library(ctypes.CDLL):
        def __getattr__(self, name: str) -> Any:
            if name in ("prctl", "unshare", "setns", "pivot_root", "umount2", "syncfs"):
                raise AttributeError(f"dlsym(RTLD_DEFAULT, {name}): symbol not found")
            return super().__getattr__(name)

    ctypes.CDLL = Library  # type: ignore[misc]


def _forbid_write_flags() -> None:
    pwritev = os.pwritev

    def without_flags(descriptor: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags:
            raise NotImplementedError("pwritev2: flags unavailable on this platform")
        return pwritev(descriptor, buffers, offset)

    os.pwritev = without_flags


def _hide_proc() -> None:
    def hide(function: Callable[..., Any]) -> Callable[..., Any]:
        def hidden(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            shown = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
            if shown == "/proc" or shown.startswith("/proc/"):
                raise FileNotFoundError(2, "No such file or directory", shown)
            return function(path, *arguments, **options)

        return hidden

    for name in ("open", "stat", "lstat", "readlink", "listdir", "scandir", "access"):
        setattr(os, name, hide(getattr(os, name)))
    io.open = builtins.open = hide(io.open)  # type: ignore[assignment]
