"""Which builds of a kernel a manifest's machines get: the same as the kernels library takes there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from bundler.hub.selection.variants import Machine, Variant, choose_variants, list_variants

NAMES = (
    "torch-cpu",
    "torch-cuda",
    "torch-universal",
    "torch-stable-abi29-cu126-x86_64-linux",
    "torch-stable-abi210-cu128-x86_64-linux",
    "torch212-cxx11-cpu-x86_64-linux",
    "torch212-cxx11-cu126-x86_64-linux",
    "torch213-cpu-aarch64-linux",
    "torch213-cpu-x86_64-linux",
    "torch213-cu126-x86_64-linux",
    "torch213-cu128-x86_64-linux",
    "torch213-cu130-x86_64-linux",
    "torch213-cxx11-cu128-x86_64-linux",
    "torch213-metal-aarch64-darwin",
    "torch26-cxx11-cu118-x86_64-linux",
    "torch26-cxx98-cu118-x86_64-linux",
)
TORCH = ("2.6", "2.9", "2.12", "2.13", "2.14")
BACKENDS = ("cpu", "cu118", "cu126", "cu128", "cu129", "cu130", "metal")
PLATFORMS = ("x86_64-linux", "aarch64-linux", "aarch64-darwin")


def variants(names: Sequence[str] = NAMES) -> list[Variant]:
    return list_variants(f"build/{name}/metadata.json" for name in names)


def chosen(names: Sequence[str] = NAMES, **wanted: Sequence[str]) -> list[str]:
    options = {"torch": (), "backends": (), "platforms": (), **wanted}
    return [variant.name for variant in choose_variants(variants(names), **options)[0]]


def test_all_builds_are_taken_where_nothing_is_narrowed_down() -> None:
    assert chosen() == sorted(NAMES)


def test_folders_that_are_no_builds_are_not_taken() -> None:
    paths = ("build/metadata.json", "build/notes/x.txt", "torch-cpu/x.py", "build/torch-cpu/x.py")
    assert [variant.name for variant in list_variants(paths)] == ["torch-cpu"]


def test_the_best_build_is_taken_for_a_machine() -> None:
    assert chosen(torch=["2.13"], backends=["cu129"], platforms=["x86_64-linux"]) == [
        "torch-stable-abi210-cu128-x86_64-linux"
    ]


def test_python_only_is_taken_where_no_build_fits() -> None:
    assert chosen(torch=["2.5"], backends=["cu121"], platforms=["aarch64-linux"]) == ["torch-cuda"]
    assert chosen(torch=["2.5"], backends=["rocm64"], platforms=["aarch64-linux"]) == ["torch-universal"]


def test_what_is_left_open_means_all_that_there_is() -> None:
    assert chosen(torch=["2.12"], backends=["cpu", "cu126"]) == [
        "torch-cpu",
        "torch-cuda",
        "torch-stable-abi29-cu126-x86_64-linux",
        "torch212-cxx11-cpu-x86_64-linux",
    ]


def test_a_machine_without_a_build_is_named() -> None:
    names = ["torch213-cpu-x86_64-linux"]
    found, unserved = choose_variants(
        variants(names), torch=["2.13", "2.12"], backends=["cpu"], platforms=["x86_64-linux"]
    )
    assert [variant.name for variant in found] == names
    assert unserved == [Machine("2.12", "cpu", "x86_64-linux")]


def test_a_build_for_another_library_does_not_take_the_place_of_one_for_torch() -> None:
    names = ["torch-universal", "tvm-ffi01-cpu-x86_64-linux"]
    assert chosen(names, torch=["2.13"], backends=["cpu"], platforms=["x86_64-linux"]) == names


@pytest.mark.parametrize(("torch", "backend", "platform"), [*product(TORCH, BACKENDS, PLATFORMS)])
def test_the_choice_is_that_of_the_library(torch: str, backend: str, platform: str) -> None:
    library = pytest.importorskip("kernels.variants")
    backends = pytest.importorskip("kernels.backends")
    from packaging.version import Version

    cpu, _, system = platform.partition("-")
    accepted, _ = library._resolve_variant_for_system(
        variants=[library.parse_variant(name) for name in NAMES],
        selected_backend=backends.parse_backend(backend),
        cpu=cpu,
        os=system,
        torch_version=Version(torch),
        # Which of two forms a machine takes is a matter of how its torch was built: both are carried.
        torch_cxx11_abi=True,
        tvm_ffi_version=None,
        macos_version=Version("26.1"),
    )
    ours = chosen(torch=[torch], backends=[backend], platforms=[platform])
    assert {name.replace("cxx98", "cxx11") for name in ours} == {one.variant_str for one in accepted[:1]}
