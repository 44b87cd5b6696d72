"""Choose the build variants of a kernel for the machines that will load it.

A repo of the `kernels` library has a folder for each build below `build/`, and the library takes the best one for the
torch, the backend and the platform that it finds. Here the same is done for machines that a manifest describes.

    torch213-cxx11-cu128-x86_64-linux         torch 2.13, CUDA 12.8; the part cxx11 may be missing
    torch-stable-abi29-cu126-aarch64-linux    torch 2.9 and every later one
    tvm-ffi01-cpu-x86_64-linux                for another library than torch; taken on no account of torch's version
    torch-cpu, torch-cuda, torch-universal    Python only: for one backend, or for all

Rule book:

* a variant whose name has none of these forms is not for this library, and is not taken;
* a build for an older minor version of CUDA works on a newer one of the same major version;
* for each machine the best build is taken: stable ABI before plain, newer before older, built before Python only.
  What the library would take second is not carried.

Source: kernels 0.17.2, `kernels.variants.parse_variant` and `_resolve_variant_for_system`; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

BUILD_FOLDER = "build"

_PLATFORM = r"(?P<platform>[A-Za-z0-9_]+-(?:linux|darwin|windows))"
_BACKEND = r"(?P<backend>[a-z]+[0-9]*)"
_TORCH = re.compile(rf"torch(?P<torch>[0-9]{{2,}})(?:-(?P<abi>cxx11|cxx98))?-{_BACKEND}-{_PLATFORM}")
_STABLE = re.compile(rf"torch-stable-abi(?P<torch>[0-9]{{2,}})-{_BACKEND}-{_PLATFORM}")
_OTHER = re.compile(rf"tvm-ffi[0-9]{{2,}}-{_BACKEND}-{_PLATFORM}")
_PYTHON_ONLY = re.compile(r"torch-(?P<backend>[a-z]+)")
_CUDA = re.compile(r"cu([0-9]+)([0-9])")
# What Python-only builds call a backend that has versions.
_FAMILIES = {"cu": "cuda", "cann": "npu"}


@dataclass(frozen=True, order=True)
class Machine:
    """What a kernel is to run on.

    Attributes:
        torch: Major and minor version of torch, such as ``2.13``.
        backend: Such as cu128, rocm64, xpu20252, metal or cpu.
        platform: Such as ``x86_64-linux``.
    """

    torch: str
    backend: str
    platform: str

    def __str__(self) -> str:
        return f"torch {self.torch}, {self.backend}, {self.platform}"


@dataclass(frozen=True)
class Variant:
    """A build, by the name of its folder.

    Attributes:
        name: The folder's name.
        torch: Version of torch, as (major, minor); None for every one.
        is_stable: Whether it is for later versions, too.
        backend: What it runs on.
        platform: Processor and system; None for every one.
        rank: The library's order: a smaller one is preferred.
    """

    name: str
    torch: tuple[int, int] | None
    is_stable: bool
    backend: str
    platform: str | None
    rank: int

    @classmethod
    def parse(cls, name: str) -> Variant | None:
        """Read the name of a folder; None if it is no variant's."""
        if match := _STABLE.fullmatch(name):
            return cls(name, _version(match["torch"]), True, match["backend"], match["platform"], 0)
        if match := _TORCH.fullmatch(name):
            rank = 2 if match["abi"] else 1
            return cls(name, _version(match["torch"]), False, match["backend"], match["platform"], rank)
        if match := _OTHER.fullmatch(name):
            return cls(name, None, False, match["backend"], match["platform"], 3)
        if match := _PYTHON_ONLY.fullmatch(name):
            return cls(name, None, False, match["backend"], None, 5 if match["backend"] == "universal" else 4)
        return None

    def fits(self, machine: Machine) -> bool:
        """Tell whether the library takes it on a machine."""
        if self.platform is None:
            family = re.sub(r"[0-9]+$", "", machine.backend)
            return self.backend in ("universal", _FAMILIES.get(family, family))
        if self.platform != machine.platform or not _runs_on(self.backend, machine.backend):
            return False
        wanted = _split(machine.torch)
        return self.torch is None or self.torch == wanted or (self.is_stable and self.torch < wanted)

    @property
    def is_for_other(self) -> bool:
        """Whether it is for another library than torch."""
        return self.platform is not None and self.torch is None

    @property
    def order(self) -> tuple[int, tuple[int, int], int]:
        """What to sort by; the first one is the best."""
        major, minor = self.torch if self.is_stable and self.torch else (0, 0)
        cuda = _CUDA.fullmatch(self.backend)
        return self.rank, (-major, -minor), -int(cuda[2]) if cuda else 0


def list_variants(paths: Iterable[str]) -> list[Variant]:
    """Return the variants of a repo with these files, by name."""
    names = {path.split("/")[1] for path in paths if path.startswith(f"{BUILD_FOLDER}/") and path.count("/") > 1}
    return [variant for name in sorted(names) if (variant := Variant.parse(name))]


def choose_variants(
    variants: Sequence[Variant], *, torch: Sequence[str], backends: Sequence[str], platforms: Sequence[str]
) -> tuple[list[Variant], list[Machine]]:
    """Choose the best variant for each machine.

    Args:
        variants: What there is.
        torch: Versions of torch; empty for all that there are builds for.
        backends: Backends; empty in the same way.
        platforms: Platforms; empty in the same way.

    Returns:
        The chosen ones by name, all where nothing is narrowed down; and the machines that nothing fits, of those that
        the arguments name completely.
    """
    if not (torch or backends or platforms):
        return list(variants), []
    built = [variant for variant in variants if variant.platform]
    known = [f"{variant.torch[0]}.{variant.torch[1]}" for variant in built if variant.torch]
    machines = [
        Machine(*parts)
        for parts in product(
            torch or sorted(set(known)) or ["0.0"],
            backends or sorted({variant.backend for variant in built}) or ["cpu"],
            platforms or sorted({variant.platform for variant in built if variant.platform}) or ["x86_64-linux"],
        )
    ]
    chosen: set[str] = set()
    unserved = []
    for machine in machines:
        fitting = sorted((variant for variant in variants if variant.fits(machine)), key=lambda one: one.order)
        # Without that other library, the next best is what is taken.
        for group in ([one for one in fitting if not one.is_for_other], fitting):
            # The two forms of one build; which of them fits is a matter of how torch was built.
            chosen |= {one.name for one in group if one.order == group[0].order}
        if not fitting and torch and backends and platforms:
            unserved.append(machine)
    return [variant for variant in variants if variant.name in chosen], unserved


def _version(digits: str) -> tuple[int, int]:
    return int(digits[0]), int(digits[1:])


def _split(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _runs_on(built: str, there: str) -> bool:
    first, second = _CUDA.fullmatch(built), _CUDA.fullmatch(there)
    if first and second:
        return first[1] == second[1] and int(first[2]) <= int(second[2])
    return built == there
