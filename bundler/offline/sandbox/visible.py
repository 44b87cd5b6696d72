"""Which files a Python program needs to run, found out in the interpreter that will start it, or by asking it.

Rule book:

* named is what is shown, not what is hidden: of a folder of the user only what Python imports from;
* an installation (a prefix) is its programs and libraries, never the folder around it, which may be a home;
* of a folder on the path that is no part of an installation, such as a checkout, it is the packages and modules.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
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
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "resolv.conf",
    "services",
    # Certificates of authorities, which a client loads before it connects to anything, and says to be broken without.
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
_OF_PREFIX = ("bin", "lib", "lib64", "lib32", "libexec", "share", "pyvenv.cfg")
_INSTALLED = ("site-packages", "dist-packages", "lib-dynload")
_MODULE_SUFFIXES = (".py", ".so", ".zip", ".egg", ".pth")
_METADATA_SUFFIXES = (".egg-info", ".dist-info")
_PREFIXES = ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix")
# How long another interpreter may take to say where it is; on a cold network file system it is slow.
_ANSWER_SECONDS = 60


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


@dataclass(frozen=True)
class Interpreter:
    """Where an installation of Python has its files.

    Attributes:
        executable: What is started.
        prefixes: Its own folder, and that of the installation that it was made from.
        path: What it imports from.
    """

    executable: str
    prefixes: tuple[str, ...]
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Interpreter:
        """Return the one that runs this."""
        return cls(sys.executable, tuple(getattr(sys, name) for name in _PREFIXES), tuple(sys.path))

    @classmethod
    def ask(cls, executable: str) -> Interpreter | None:
        """Start another one and ask it; None where it does not answer."""
        code = f"import json, sys; print(json.dumps([[getattr(sys, n) for n in {_PREFIXES}], sys.path[1:]]))"
        try:
            done = subprocess.run(
                [executable, "-c", code], capture_output=True, timeout=_ANSWER_SECONDS, check=True
            )
            prefixes, path = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            return None
        return cls(executable, tuple(map(str, prefixes)), tuple(map(str, path)))


def visible_to_python(
    read: Iterable[Path], write: Iterable[Path], *, others: Sequence[Interpreter] = ()
) -> Visible:
    """Return what a Python program of this interpreter needs, and files of its own.

    Args:
        read: Its own files to read.
        write: Its own folders to write.
        others: Further interpreters that it may start.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 -- not an error where there is none
    interpreters = (Interpreter.here(), *others)
    system = [Path(name) for name in _SYSTEM if not home.is_relative_to(name)]
    settings = [Path("/etc", name) for name in _SETTINGS]
    libraries = [Path(name) for name in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if name]
    installed = [path for each in interpreters for path in (*_installation(each), *_importable(each.path))]
    found = [*system, *settings, *libraries, *installed, *_editable(), *read]
    there = dict.fromkeys(path for path in found if path.is_absolute() and path.exists() and path != home)
    imported_from = dict.fromkeys(Path(entry) for each in interpreters for entry in each.path)
    names = tuple(folder for folder in imported_from if folder.is_absolute() and folder.is_dir())
    return Visible(read=tuple(there), write=tuple(write), names=names)


def _installation(interpreter: Interpreter) -> Iterator[Path]:
    for prefix in dict.fromkeys(interpreter.prefixes):
        yield from (Path(prefix, name) for name in _OF_PREFIX)
    yield Path(interpreter.executable)


def _importable(path: Iterable[str]) -> Iterator[Path]:
    for entry in path:
        folder = Path(entry)
        if folder.name in _INSTALLED or not folder.is_dir():
            yield folder
        else:
            yield from (found for found in folder.iterdir() if _is_module(found))


def _editable() -> Iterator[Path]:
    # How setuptools makes an editable installation whose folder is not on the path.
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__"):
            yield from (Path(path) for path in getattr(module, "MAPPING", {}).values())


def _is_module(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    is_package = (path / "__init__.py").exists()
    return is_package or path.suffix in _METADATA_SUFFIXES or (path.is_file() and path.suffix in _MODULE_SUFFIXES)
