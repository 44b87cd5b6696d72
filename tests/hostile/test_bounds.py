"""A file of a megabyte takes no more than 300 MB and 5 s, whatever it is, and is answered on one screen.

The commands run with 64 jobs, as they would on a machine of 64 cores. Seconds are those of a processor (a machine may
be busy with others), and the kernel counts both: `RLIMIT_CPU` ends what takes longer.
"""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

from tests.hostile import bombs
from tests.support.process import script

_MOST_KIB = 300 << 10
_MOST_SECONDS = 5
_SCREEN_BYTES, _SCREEN_LINES = 12_000, 60
pytestmark = pytest.mark.slow


def run_bounded(*arguments: str | Path, stdin: Path | None = None) -> str:
    """Run `bundle`, which must refuse what it is given within the bounds; return what it says."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))

    with (stdin or Path(os.devnull)).open("rb") as source:
        process = subprocess.Popen(
            [script("bundle"), *arguments],
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=limit,
        )
        with process:
            assert process.stderr is not None
            said = process.stderr.read().decode()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = code = os.waitstatus_to_exitcode(status)
    assert code > 1, (code, said[:2000])
    assert used.ru_maxrss < _MOST_KIB, f"{used.ru_maxrss >> 10} MiB"
    assert "Traceback" not in said
    assert len(said) < _SCREEN_BYTES, said[:2000]
    assert said.count("\n") < _SCREEN_LINES, said[:2000]
    return said


@pytest.mark.parametrize("name", bombs.BUNDLES)
def test_a_hostile_bundle_stays_within_bounds(tmp_path: Path, name: str) -> None:
    path = bombs.write(tmp_path / "tiny.tar.zst", bombs.BUNDLES[name]())
    home = tmp_path / "home"
    run_bounded("verify", path, "--jobs", "64")
    run_bounded("install", path, "--hf-home", home, "--jobs", "64")
    run_bounded("install", "-", "--hf-home", home, "--jobs", "64", stdin=path)
    assert not [path for path in home.rglob("*") if path.is_file() and path.name == "w.bin"]


@pytest.mark.parametrize("name", bombs.text_bombs())
def test_a_hostile_text_stays_within_bounds(tmp_path: Path, name: str) -> None:
    content = bombs.text_bombs()[name]
    manifest = bombs.write(tmp_path / "tiny.yaml", content)
    run_bounded("fetch", manifest, "--dry-run")
    bombs.write(tmp_path / "policy.yaml", content)
    bundle = bombs.write(tmp_path / "some.tar.zst", bombs.many_chunks())
    run_bounded("install", bundle, "--policy", tmp_path / "policy.yaml", "--hf-home", tmp_path / "home")
    bombs.write(tmp_path / "some.tar.zst.sig", content)
    run_bounded("install", bundle, "--hf-home", tmp_path / "home")
    receipt = tmp_path / "home/bundles/tiny.json"
    receipt.parent.mkdir(parents=True, exist_ok=True)
    bombs.write(receipt, content)
    run_bounded("verify", "tiny", "--hf-home", tmp_path / "home")
