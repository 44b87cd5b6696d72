"""The compiled code in a wheel: optional where it is built, and what the wheel's name says where it is there."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.wheels import COMPILERS, EXTENSION, WrongWheelError, build_environment, can_compile, check_wheel

ROOT = Path(__file__).parents[2]
OTHER = "aarch64" if platform.machine() == "x86_64" else "x86_64"


def build(folder: Path, environment: dict[str, str]) -> tuple[int, Path, str]:
    """Build the compiled code as an installation does; return the exit code, where it should be, and what was said."""
    words = (
        sys.executable,
        "setup.py",
        "build_ext",
        "--build-lib",
        folder / "lib",
        "--build-temp",
        folder / "work",
    )
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, folder / "lib" / EXTENSION, done.stdout + done.stderr


def wheel_of(binary: Path, folder: Path) -> Path:
    """A file as far as `check_wheel` looks at it."""
    path = folder / "infini_llama-0-cp311-abi3-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        if binary.exists():
            archive.write(binary, EXTENSION)
    return path


def test_without_a_compiler_the_installation_goes_on(tmp_path: Path) -> None:
    code, binary, said = build(tmp_path, build_environment(platform.machine()) | {"CC": "no-such-compiler"})
    assert (code, binary.exists()) == (0, False), said


def test_it_can_be_left_out(tmp_path: Path) -> None:
    code, binary, said = build(tmp_path, build_environment(None))
    assert (code, binary.exists()) == (0, False), said
    assert "gcc" not in said


@pytest.mark.parametrize("machine", COMPILERS)
def test_it_is_code_of_the_machine_that_needs_python_and_an_old_libc(machine: str, tmp_path: Path) -> None:
    pytest.importorskip("elftools")
    if not can_compile(machine):
        pytest.skip(f"no {COMPILERS[machine]}")
    code, binary, said = build(tmp_path, build_environment(machine))
    assert code == 0, said
    wheel = wheel_of(binary, tmp_path)
    check_wheel(wheel, machine)
    wrong = next(name for name in COMPILERS if name != machine)
    with pytest.raises(WrongWheelError, match=f"expected code for {wrong}, found EM_"):
        check_wheel(wheel, wrong)


def test_a_wheel_without_it_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("elftools")
    with pytest.raises(WrongWheelError, match="which was not built"):
        check_wheel(wheel_of(tmp_path / "missing", tmp_path), platform.machine())


@pytest.mark.parametrize(
    ("code", "libraries", "said"),
    [
        ("#include <math.h>\ndouble f(double x) { return cos(x); }\n", ["-lm"], "found libm"),
        (
            "#include <unistd.h>\nint f(void *at) { return getentropy(at, 8); }\n",
            [],
            r"found getentropy, GLIBC_2\.25; manylinux_2_17",
        ),
    ],
    ids=["a library", "a newer libc"],
)
def test_code_that_needs_more_is_refused(code: str, libraries: list[str], said: str, tmp_path: Path) -> None:
    pytest.importorskip("elftools")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    source, binary = tmp_path / "needs.c", tmp_path / "needs.so"
    source.write_text(code)
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", binary, source, *libraries], check=True)
    with pytest.raises(WrongWheelError, match=said):
        check_wheel(wheel_of(binary, tmp_path), platform.machine())


def test_another_machines_is_built_by_its_compiler_alone() -> None:
    environment = build_environment(OTHER)
    assert environment["CC"] == COMPILERS[OTHER]
    assert environment["LDSHARED"].startswith(COMPILERS[OTHER])
