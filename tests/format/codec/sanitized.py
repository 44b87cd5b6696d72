"""Tests of the compiled code, built so that it stops at the first byte read or written outside of a buffer.

    python -m tests.format.codec.sanitized [ARGUMENTS OF PYTEST]

It is compiled with AddressSanitizer and UndefinedBehaviorSanitizer into a folder of its own, and takes the place of the
installed one in a pytest that has their libraries loaded first. Python then asks for memory by `malloc` alone, which
they watch.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
TESTS = ("test_words.py", "test_exponents.py", "test_codecs.py", "test_differences.py")
NAME = "bundler.format.codec._words"
_BINARY = "SANITIZED_WORDS"
_FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"


def pytest_configure() -> None:
    """Put the code that was built here in the place of the installed one, in the pytest that `main` starts."""
    spec = importlib.util.spec_from_file_location(NAME, os.environ[_BINARY])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from bundler.format import codec

    sys.modules[NAME] = module
    codec._words = module  # type: ignore[attr-defined]


def build(folder: Path) -> Path:
    """Build the code with the sanitizers; return the binary."""
    words = (
        sys.executable,
        "setup.py",
        "--quiet",
        "build_ext",
        "--build-lib",
        folder,
        "--build-temp",
        folder / "work",
    )
    environment = os.environ | {"CFLAGS": _FLAGS, "LDSHARED": f"cc -shared {_FLAGS}"}
    subprocess.run(words, cwd=ROOT, env=environment, check=True)
    (binary,) = folder.rglob("_words*.so")
    return binary


def main(arguments: list[str]) -> int:
    """Build, run, and return the exit code of pytest."""
    with tempfile.TemporaryDirectory(prefix="sanitized-") as folder:
        binary = build(Path(folder))
        libraries = [
            subprocess.run(
                ["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
            ).stdout.strip()
            for name in ("libasan.so", "libubsan.so")
        ]
        environment = os.environ | {
            _BINARY: str(binary),
            "LD_PRELOAD": " ".join(libraries),
            "PYTHONMALLOC": "malloc",
            # Python itself frees little when it ends.
            "ASAN_OPTIONS": "detect_leaks=0",
        }
        # What a sanitizer says stands on the error output of the process, which ends there.
        plugin = ("-p", "tests.format.codec.sanitized", "-p", "no:cacheprovider", "--capture=sys")
        tests = arguments or [str(Path(__file__).with_name(name)) for name in TESTS]
        words = (sys.executable, "-m", "pytest", "-q", *plugin, *tests)
        return subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
