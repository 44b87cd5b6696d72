"""Check the machine: free space, links and locks on the cache's file system, isolation, compiled code, versions."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bundler.doctor.diagnosis import Diagnosis, note, ok, problem, warning
from bundler.errors import OfflineError
from bundler.files.atomic import temporary_path
from bundler.files.links import symlinks_work
from bundler.files.space import existing_folder
from bundler.format.codec.words import VARIABLE, Way, chosen_way, compiled_way
from bundler.offline.kernel.isolation import choose
from bundler.text.documents import document_address
from bundler.text.wording import size

_SCARCE_BYTES = 2_000_000_000
_SCARCE_FILES = 10_000
_PACKAGES = ("huggingface_hub", "transformers", "datasets", "torch")


def check_file_system(hf_home: Path) -> Iterator[Diagnosis]:
    """Check free space, symlinks and locks where the cache is, or will be."""
    folder = existing_folder(hf_home)
    yield from _check_room(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        return
    try:
        if symlinks_work(folder):
            yield ok("symlinks", f"work in {folder}")
        else:
            yield note("symlinks", f"do not work in {folder}", "bundles are installed as copies: twice the space")
    except OSError as error:
        yield warning("symlinks", f"nothing can be made in {folder}: {error.strerror}", "see to that file system")
        return
    if _locks_work(folder):
        yield ok("locks", f"work in {folder}")
    else:
        yield warning(
            "locks",
            f"flock does nothing in {folder}, as on some network file systems",
            "bundles do not rely on it; let one process at a time download here, or move HF_HOME",
        )


def _check_room(folder: Path) -> Iterator[Diagnosis]:
    free = shutil.disk_usage(folder).free
    status = os.statvfs(folder)
    shown = f"{size(free)} free in {folder}"
    if free < _SCARCE_BYTES:
        yield warning("space", shown, "free some space, or set HF_HOME to a larger file system")
    else:
        yield ok("space", shown)
    # A file system without a limit on the number of files reports 0 of 0.
    if status.f_files and status.f_favail < _SCARCE_FILES:
        yield warning(
            "space", f"only {status.f_favail:,} more files fit into {folder}", "remove files, or ask for quota"
        )


def _locks_work(folder: Path) -> bool:
    """Return whether a second flock on a file is refused; two are tried."""
    path = temporary_path(folder)
    try:
        with path.open("wb") as first, path.open("wb") as second:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)


def check_isolation() -> Iterator[Diagnosis]:
    """Check which isolation the kernel offers to `bundle run`."""
    try:
        found = choose("auto")
    except OfflineError as error:
        yield problem("isolation", error.message, error.hint or "")
        return
    if found.kind == "none":
        document = document_address("OFFLINE_MODE.md#below-python---isolate")
        advice = f"{document} says what to ask the administrator for"
        yield warning("isolation", f"the kernel does not help here: {found.detail}", advice)
    else:
        yield ok("isolation", f"{found.kind}: {found.detail}")


def check_compiled() -> Iterator[Diagnosis]:
    """Check which code takes weights apart and puts them together."""
    yield _describe_way(chosen_way(), compiled_way())


def _describe_way(chosen: Way, compiled: Way | None) -> Diagnosis:
    if chosen is compiled:
        return ok("compiled", "weights are taken apart and put together by compiled code")
    if compiled is not None:
        return note("compiled", f"numpy does the work of the compiled code, by {VARIABLE}=0", f"unset {VARIABLE}")
    advice = (
        "to pack and install faster, install again where there is a C compiler, or from a wheel of your machine"
    )
    return note("compiled", "numpy does the work of the compiled code, which was not built", advice)


def check_versions() -> Iterator[Diagnosis]:
    """List the versions of Python and of the libraries."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    yield ok("versions", f"Python {sys.version.split()[0]}, {', '.join(found)}")
