"""Which files a Python program needs to run, found out in the interpreter that will start it.

Rule book:

* named is what is shown, not what is hidden: of a folder of the user only what Python imports from;
* an installation (a prefix) is its programs and libraries, never the folder around it, which may be a home;
* of a folder on the path that is no part of an installation, such as a checkout, it is the packages and modules.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Software of the system. /opt, /nix and /gnu hold nothing else by convention; a home below one of them hides it.
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/usr", "/opt", "/nix/store", "/gnu/store", "/cvmfs")
# What libraries read of /etc: names of users and hosts, time, where libraries are.
_SETTINGS = (
    "alternatives",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "resolv.conf",
    "services",
    "timezone",
)
_OF_PREFIX = ("bin", "lib", "lib64", "lib32", "libexec", "share", "pyvenv.cfg")
_INSTALLED = ("site-packages", "dist-packages", "lib-dynload")
_MODULE_SUFFIXES = (".py", ".so", ".zip", ".egg", ".pth")
_METADATA_SUFFIXES = (".egg-info", ".dist-info")


@dataclass(frozen=True, kw_only=True)
class Visible:
    """The files of a sandboxed program.

    Attributes:
        read: Files and folders that it may read and execute; absolute, all there.
        write: Folders that it may change.
        names: Folders whose names it may list, whatever they hold: Python does so to import what is in them.
    """

    read: tuple[Path, ...]
    write: tuple[Path, ...]
    names: tuple[Path, ...] = ()


def visible_to_python(read: Iterable[Path], write: Iterable[Path]) -> Visible:
    """Return what a Python program of this interpreter needs, and files of its own.

    Args:
        read: Its own files to read.
        write: Its own folders to write.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 -- not an error where there is none
    system = [Path(name) for name in _SYSTEM if not home.is_relative_to(name)]
    settings = [Path("/etc", name) for name in _SETTINGS]
    libraries = [Path(name) for name in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if name]
    found = [*system, *settings, *libraries, *_interpreter(), *_importable(), *read]
    there = dict.fromkeys(path for path in found if path.is_absolute() and path.exists() and path != home)
    names = tuple(folder for entry in sys.path if (folder := Path(entry)).is_absolute() and folder.is_dir())
    return Visible(read=tuple(there), write=tuple(write), names=names)


def _interpreter() -> Iterator[Path]:
    for prefix in dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)):
        yield from (Path(prefix, name) for name in _OF_PREFIX)
    yield Path(sys.executable)


def _importable() -> Iterator[Path]:
    for entry in sys.path:
        folder = Path(entry)
        if folder.name in _INSTALLED or not folder.is_dir():
            yield folder
        else:
            yield from (path for path in folder.iterdir() if _is_module(path))
    # How setuptools makes an editable installation whose folder is not on the path.
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__"):
            yield from (Path(path) for path in getattr(module, "MAPPING", {}).values())


def _is_module(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    is_package = (path / "__init__.py").exists()
    return is_package or path.suffix in _METADATA_SUFFIXES or (path.is_file() and path.suffix in _MODULE_SUFFIXES)
