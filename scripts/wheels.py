"""Builds our wheel for a machine: with compiled code, by a cross compiler where the machine is another than this one.

Rule book:

* the compiled code is in C without a word of a processor's own, and uses the limited API of Python (setup.py): one
  wheel for each machine is for all Pythons from 3.11 on, and headers of this Python do for the other machine, which
  has integers and pointers of the same lengths;
* it asks for no library but libc, and there for what a compiler calls by itself. The tag names a libc so old that all
  Pythons have a newer. `check_wheel` looks at both, because a change of the code may end it;
* a wheel without compiled code is for every machine (`py3-none-any`); numpy does the work there.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import sys
import zipfile
from pathlib import Path

import click

# Of each machine the compiler's name in Debian and Fedora, beside which nothing else is needed.
COMPILERS = {"x86_64": "x86_64-linux-gnu-gcc", "aarch64": "aarch64-linux-gnu-gcc"}
# The oldest libc for which Pythons are built, 3.11 among them (PEP 599).
TAG = "manylinux_2_17"
EXTENSION = "bundler/format/codec/_words.abi3.so"
# What a compiler makes of loops and of assignments, whatever the code says.
_COMPILERS_OWN = {"memcpy", "memmove", "memset"}
_ELF_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


class WrongWheelError(click.ClickException):
    """A wheel that is not what its name says."""


def can_compile(machine: str) -> bool:
    """Return whether there is a compiler for a machine; of this one pip will say."""
    return machine == platform.machine() or shutil.which(COMPILERS[machine]) is not None


def build_environment(machine: str | None) -> dict[str, str]:
    """Return the variables under which setuptools builds the wheel of a machine; None is the one for every machine."""
    environment = {name: value for name, value in os.environ.items() if name != "BUNDLE_COMPILED"}
    if machine is None:
        environment["BUNDLE_COMPILED"] = "0"
    elif machine != platform.machine():
        compiler = COMPILERS[machine]
        # What this Python was built with is of no use there, hence a command for linking too. The last one is how
        # CPython's own cross builds tell the platform, for the names of wheel and folders.
        environment |= {
            "CC": compiler,
            "CFLAGS": "",
            "LDSHARED": f"{compiler} -shared",
            "_PYTHON_HOST_PLATFORM": f"linux-{machine}",
        }
    return environment


def build_command(sources: Path, folder: Path, machine: str) -> list[str | Path]:
    """Return the command that builds the wheel of a machine for publishing, under `build_environment(machine)`."""
    tag = f"-C--build-option=--plat-name={TAG}_{machine}"
    return [sys.executable, "-m", "build", "--wheel", "--no-isolation", tag, "--outdir", folder, sources]


def check_wheel(wheel: Path, machine: str) -> None:
    """Check that a wheel has compiled code, of that machine, and that any Python's process has what the code asks for.

    Raises:
        WrongWheelError: It has none, or it is another machine's, or it needs more than Python and an old libc.
    """
    from elftools.elf.dynamic import DynamicSection  # An extra's: only releases need it.
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection
    from elftools.elf.sections import SymbolTableSection

    with zipfile.ZipFile(wheel) as archive:
        if EXTENSION not in archive.namelist():
            raise WrongWheelError(
                f"{wheel.name}: expected {EXTENSION}, which was not built: see what the compiler said"
            )
        binary = ELFFile(io.BytesIO(archive.read(EXTENSION)))
    if (found := binary["e_machine"]) != _ELF_MACHINES[machine]:
        raise WrongWheelError(f"{wheel.name}: expected code for {machine}, found {found}")
    symbols, dynamic = (binary.get_section_by_name(name) for name in (".dynsym", ".dynamic"))
    if not isinstance(symbols, SymbolTableSection) or not isinstance(dynamic, DynamicSection):
        raise WrongWheelError(
            f"{wheel.name}: expected a library that Python can load, found one without its tables"
        )
    undefined = [symbol for symbol in symbols.iter_symbols() if symbol["st_shndx"] == "SHN_UNDEF"]
    foreign = [
        symbol.name
        for symbol in undefined
        if symbol["st_info"]["bind"] == "STB_GLOBAL" and not symbol.name.lstrip("_").startswith("Py")
    ]
    # The attribute is named by its tag at run time, so types know nothing of it.
    needed = [vars(tag)["needed"] for tag in dynamic.iter_tags("DT_NEEDED")]
    versions = [
        version.name
        for section in binary.iter_sections()
        if isinstance(section, GNUVerNeedSection)
        for _, entries in section.iter_versions()
        for version in entries
    ]
    wrong = [
        *(library for library in needed if library != "libc.so.6"),
        *(name for name in foreign if name not in _COMPILERS_OWN),
        *(version for version in versions if _glibc(version) > _glibc(TAG.replace("manylinux", "GLIBC"))),
    ]
    if wrong:
        raise WrongWheelError(
            f"{wheel.name}: expected code that asks for nothing but Python and {', '.join(sorted(_COMPILERS_OWN))} "
            f"of libc, found {', '.join(wrong)}; {TAG} may not be what it needs"
        )


def _glibc(version: str) -> list[int]:
    """Return the numbers of a version such as `GLIBC_2.17` or `GLIBC_2_17`."""
    name, _, numbers = version.partition("_")
    if name != "GLIBC":
        raise WrongWheelError(f"expected versions of glibc alone, found {version}")
    return [int(number) for number in numbers.replace("_", ".").split(".")]
