"""What a figure was measured on: machine, system, tools, and how busy it was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket
import subprocess
from pathlib import Path

import click

from bundler.errors import SpaceError
from bundler.files import space

_ROOT = Path(__file__).parents[2]
# Instructions that decide how fast a digest or a codec is.
_FLAGS = ("sha_ni", "avx2", "avx512f", "avx512vbmi")


def check_room(folder: Path, needed: int) -> None:
    """Refuse to fill the disk, which other work may share.

    Raises:
        ClickException: `folder`, which may be missing, has less room than `needed` bytes.
    """
    try:
        space.check_room({folder: needed}, hint="name another folder with --work")
    except SpaceError as error:
        raise click.ClickException(str(error)) from error


def describe(work: Path) -> dict[str, str | int | list[str]]:
    """Describe this machine and its tools; `work` tells which file system is measured."""
    cpu = Path("/proc/cpuinfo").read_text()
    flags = _first(r"^flags\s*:\s*(.*)$", cpu).split()
    memory_kib = int(_first(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text()) or 0)
    return {
        "cpu": _first(r"^model name\s*:\s*(.*)$", cpu) or platform.machine(),
        "cpu_flags": [flag for flag in _FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory_kib * 1024,
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": _output("findmnt", "-no", "FSTYPE", "-T", str(work)) or "unknown",
        "python": platform.python_version(),
        "zstd": _first(r"v(\d[\d.]*)", _output("zstd", "--version")),
        "tar": _output("tar", "--version").partition("\n")[0],
        "openssl": _first(r"OpenSSL (\S+)", _output("openssl", "version")),
        "packages": [f"{name} {importlib.metadata.version(name)}" for name in ("zstandard", "blake3", "numpy")],
        "commit": _output("git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=10"),
    }


def load() -> list[float]:
    """Return the load averages of the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


def keep_bytecode() -> None:
    """Let what is measured write its bytecode and find it again, as installed programs do, whatever is set here.

    Without, compiling the modules would be a half of a short command.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def find_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
