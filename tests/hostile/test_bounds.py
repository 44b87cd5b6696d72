"""A file of a megabyte takes no more than 300 MB and 5 s, whatever it is, and is answered on one screen.

The commands run with 64 jobs, as they would on a machine of 64 cores. Seconds are those of a processor (a machine may
be busy with others), and the kernel counts both: `RLIMIT_CPU` ends what takes longer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.text.text_file import MAX_BYTES
from tests.hostile import bombs
from tests.hostile.commands import MOST_KIB, MOST_SECONDS, SCREEN_BYTES, SCREEN_LINES
from tests.support.process import script

pytestmark = pytest.mark.slow


# A process of its own, and a small one: what a process takes counts from the one that started it on.
_MEASURE = """
import json, os, resource, subprocess, sys
seconds = int(sys.argv[1])
limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
process = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, preexec_fn=limit)
_, status, used = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_maxrss]))
"""


def run_bounded(*arguments: str | Path) -> str:
    """Run `bundle`, which must refuse what it is given within the bounds; return what it says."""
    command = [sys.executable, "-I", "-S", "-c", _MEASURE, str(MOST_SECONDS), script("bundle"), *arguments]
    with Path(os.devnull).open("rb") as source:
        done = subprocess.run(command, stdin=source, capture_output=True, text=True, check=True)
    code, peak_kib = json.loads(done.stdout)
    said = done.stderr
    assert code > 1, (code, said[:2000])
    assert peak_kib < MOST_KIB
    assert "Traceback" not in said
    assert len(said) < SCREEN_BYTES, said[:2000]
    assert said.count("\n") < SCREEN_LINES, said[:2000]
    return said


# They take all commands a minute together; `make soak-bounds` has them.
LONG = {"lock of many repos", "lock of many names"}


@pytest.mark.parametrize("name", sorted(bombs.BUNDLES.keys() - LONG))
def test_a_hostile_bundle_stays_within_bounds(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.commands", name],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, [row for row in rows if row[-1]]) == (0, []), done.stderr
    codes = {command: code for _, command, code, *_ in rows}
    # What reads content must find what is wrong; what reads only what the bundle says of itself need not.
    assert all(codes[command] > 1 for command in ("verify", "install", "install -", "install --only", "repair"))


@pytest.mark.parametrize("name", bombs.text_bombs())
def test_a_hostile_text_stays_within_bounds(tmp_path: Path, name: str) -> None:
    content = bombs.text_bombs()[name]
    for size in (len(content), MAX_BYTES):
        manifest = bombs.write(tmp_path / "tiny.yaml", content[:size])
        run_bounded("fetch", manifest, "--dry-run")
    bombs.write(tmp_path / "policy.yaml", content[:MAX_BYTES])
    bundle = bombs.write(tmp_path / "some.tar.zst", bombs.many_chunks())
    run_bounded("install", bundle, "--policy", tmp_path / "policy.yaml", "--hf-home", tmp_path / "home")
    bombs.write(tmp_path / "some.tar.zst.sig", content)
    run_bounded("install", bundle, "--hf-home", tmp_path / "home")
    receipt = tmp_path / "home/bundles/tiny.json"
    receipt.parent.mkdir(parents=True, exist_ok=True)
    bombs.write(receipt, content)
    run_bounded("verify", "tiny", "--hf-home", tmp_path / "home")
