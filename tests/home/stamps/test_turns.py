"""Many launches at once: one hashes, the others wait for its word, and none for ever."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bundler.home.generation import stamps_path
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.stamps import turns
from bundler.home.stamps.turns import take_turn
from tests.support.bundles import locked_repo, tiny_bundle

LAUNCHES = 12
LARGE = bytes(turns.WORTH_WAITING_BYTES + 1)
# What a launch does before it starts anything; says how much it has hashed.
PROGRAM = """
import sys
from pathlib import Path
from bundler.home.home import Home
from bundler.home.stamps.check import ContentCheck
from bundler.home.stamps.verify import verify_for_launch
from bundler.home.view.open import open_view
home = Path(sys.argv[1])
bundle = Home(home).bundle("tiny", parse=False)
sys.stdin.readline()
report = verify_for_launch(
    bundle, open_view(home, [bundle]), ContentCheck(), jobs=1, on_note=lambda note: print(note, file=sys.stderr)
)
report.raise_if_failed()
print(report.size_bytes)
"""


def test_many_launches_at_once_read_the_bundle_once(tmp_path: Path) -> None:
    home = tmp_path / "hf"
    files = {"config.json": b"{}", "model.bin": LARGE}
    install(tiny_bundle(tmp_path / "built", locked_repo("org/model", files), contents=files.values()), home)
    stamps_path(home, "tiny", Home(home).bundle("tiny").digest).unlink()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(LAUNCHES)
    ]
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * LAUNCHES, ended
    assert sum(int(out) for out, _ in ended) == len(LARGE) + 2


def test_whoever_is_killed_while_others_wait_leaves_the_turn_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "turn.lock"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import fcntl, time; f = open({str(path)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); "
            "time.sleep(600)",
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout
    holder.stdout.readline()
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        holder.kill()
        holder.wait()

    with take_turn(path, what="tiny, 2 GB", seconds=60, on_note=note):
        pass
    assert notes == ["waiting for another launch of yours, which verifies tiny, 2 GB; for 60 s at most"]


def test_nobody_waits_longer_than_is_said_for_one_that_hangs(tmp_path: Path) -> None:
    path = tmp_path / "turn.lock"
    notes: list[str] = []
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        begun = time.monotonic()
        with take_turn(path, what="tiny", seconds=0.2, on_note=notes.append):
            pass
    assert time.monotonic() - begun >= 0.2
    assert notes[-1] == "note: no word for 0 s: verifying tiny here too"


@pytest.mark.parametrize("gib", [0, 500])
def test_what_is_large_is_waited_for_longer(gib: int) -> None:
    assert turns.patience_seconds(gib << 30) == 60 + gib * 51.2
