"""A fetch that is ended while a program proves leaves no process and no folder, whatever ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.make.store import Store
from bundler.offline.sandbox.sandbox import choose_sandbox
from tests.support.process import TIMEOUT_SECONDS, Child, wait_until

KINDS = [kind for kind in ("namespaces", "landlock") if choose_sandbox((kind,)).kind == kind]  # type: ignore[comparison-overlap]

# As the command `bundle` does; the lock is an empty one.
PROVES = """
import signal
import sys
from pathlib import Path

from bundler.console.ending import end_when_asked
from bundler.make.proof.command import prove_command
from bundler.make.store import Store
from bundler.offline.sandbox.limits import Limits
from tests.support.remote import lock_of

# The tests may run under nohup, and what is ignored already stays so.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with end_when_asked():
    prove_command(sys.argv[2], lock_of(), Store(Path(sys.argv[1])), sandbox=sys.argv[3], limits=Limits())
"""
# Deaf to what a terminal sends, in the background, and in a session of its own.
STAYS = "trap '' HUP INT TERM; {0} & (setsid {0} &); touch $TMPDIR/begun; {0}"


@pytest.mark.parametrize(
    ("sandbox", "number"),
    [
        ("namespaces", signal.SIGTERM),
        ("namespaces", signal.SIGKILL),
        ("landlock", signal.SIGHUP),
        ("landlock", signal.SIGKILL),
        ("none", signal.SIGINT),
        ("none", signal.SIGKILL),
    ],
)
def test_nothing_outlives_a_fetch_that_is_ended(tmp_path: Path, sandbox: str, number: signal.Signals) -> None:
    if sandbox not in (*KINDS, "none"):
        pytest.skip("this kernel has no such sandbox")
    for name in ("tmp", "program"):
        (tmp_path / name).mkdir()
    store = Store(tmp_path / "store")
    # Told from all others by how long it sleeps.
    mark = f"sleep 9{os.getpid()}.{number}{len(sandbox)}"
    process = Child(
        [sys.executable, "-c", PROVES, store.root, STAYS.format(mark), sandbox],
        cwd=tmp_path / "program",
        env={
            **os.environ,
            "TMPDIR": str(tmp_path / "tmp"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        stderr=subprocess.DEVNULL,
    )
    with process:
        wait_until(lambda: bool(list((tmp_path / "tmp").glob("b.*/begun"))))
        process.send_signal(number)
        assert process.wait(TIMEOUT_SECONDS)
    # After SIGKILL the kernel tells the process above the program, which ends the others then.
    wait_until(lambda: _running(mark) == [] or number != signal.SIGKILL)
    assert _running(mark) == []
    if number == signal.SIGKILL:
        store.sweep()
        # The notes of refusals go with the next launch.
        assert [path.name[:7] for path in (tmp_path / "tmp").iterdir()] == ["bundle-"]
    else:
        assert list((tmp_path / "tmp").iterdir()) == []
    assert list((store.root / "work").iterdir()) == []


def _running(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [path.parent.name] if path.read_bytes().replace(b"\0", b" ").decode().strip() == mark else []
    return found
