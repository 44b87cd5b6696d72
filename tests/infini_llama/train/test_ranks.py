from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import IntegrityError, OfflineError
from bundler.files.owner import Owner
from infini_llama.train import ranks
from infini_llama.train.ranks import verdict_path, wait_for_verdict

# A rank: notes when it verifies, as `bundler.enforce_offline` would, unless a parent is said to have done so.
RANK = """\
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
import bundler
from bundler.errors import BundleError, IntegrityError
from infini_llama.train.ranks import enforce_offline_once_per_node

def enforce_offline(name, *, hf_home=None, quick=False, show=None):
    if "tiny=sha256:1" not in os.environ.get("BUNDLE_VERIFIED", ""):
        with open(sys.argv[1], "a") as log:
            log.write(os.environ["LOCAL_RANK"] + "\\n")
        time.sleep(0.3)
        if sys.argv[2] == "corrupt":
            raise IntegrityError("hub/blobs/x: changed", hint="install again")
        if sys.argv[2] == "killed":
            os.kill(os.getpid(), 9)
        if sys.argv[2] == "restarted":
            os.environ.update(BUNDLE_VERIFIED="tiny=sha256:1", BUNDLE_HF_HOME="/hf")
            os.execv(sys.executable, sys.orig_argv)
    return [SimpleNamespace(lock=SimpleNamespace(name="tiny"), digest="sha256:1", hf_home=Path("/hf"))]

bundler.enforce_offline = enforce_offline
try:
    print(enforce_offline_once_per_node("tiny").digest)
    # Ranks that train stay together to the end.
    folder, size = Path(sys.argv[1]).parent, int(os.environ["LOCAL_WORLD_SIZE"])
    (folder / ("done-" + os.environ["LOCAL_RANK"])).touch()
    while len(list(folder.glob("done-*"))) < size:
        time.sleep(0.02)
except BundleError as error:
    print(error.message)
    sys.exit(error.exit_code)
"""


def launch(
    tmp_path: Path, outcome: str, *, delays: tuple[float, ...] = (0, 0, 0), **environment: str
) -> list[tuple[int, str]]:
    """Start three ranks of one node and return their exit codes and outputs."""
    processes = []
    for rank, delay in enumerate(delays):
        time.sleep(delay)
        env = os.environ | {
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(len(delays)),
            "TORCHELASTIC_RUN_ID": "none",
            "MASTER_PORT": "29500",
            "TMPDIR": str(tmp_path),
        }
        command = [sys.executable, "-c", RANK, str(tmp_path / "log"), outcome]
        processes.append(subprocess.Popen(command, env=env | environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


def test_one_rank_verifies_and_the_others_share_its_verdict(tmp_path: Path) -> None:
    assert launch(tmp_path, "ok") == [(0, "sha256:1")] * 3
    assert (tmp_path / "log").read_text() == "0\n"


def test_the_others_learn_the_verdict_of_a_rank_that_had_to_start_again_with_the_network_shut(
    tmp_path: Path,
) -> None:
    assert launch(tmp_path, "restarted", HF_HOME="/hf") == [(0, "sha256:1")] * 3
    assert (tmp_path / "log").read_text() == "0\n"


def test_a_failed_verification_ends_every_rank_with_its_exit_code(tmp_path: Path) -> None:
    results = launch(tmp_path, "corrupt")
    assert [code for code, _ in results] == [6, 6, 6]
    assert results[1][1] == "local rank 0: hub/blobs/x: changed"
    assert (tmp_path / "log").read_text() == "0\n"


def test_a_rank_that_starts_after_the_failure_fails_too(tmp_path: Path) -> None:
    assert [code for code, _ in launch(tmp_path, "corrupt", delays=(0, 1.5))] == [6, 6]


def test_a_rank_zero_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    results = launch(tmp_path, "killed")
    assert [code for code, _ in results] == [-9, 11, 11]
    assert "died while verifying" in results[1][1]


def test_nobody_verifies_what_a_parent_has_verified(tmp_path: Path) -> None:
    environment = {"BUNDLE_VERIFIED": "tiny=sha256:1", "BUNDLE_HF_HOME": "/hf", "HF_HOME": "/hf"}
    assert launch(tmp_path, "ok", **environment) == [(0, "sha256:1")] * 3
    assert not (tmp_path / "log").exists()


def test_a_verdict_that_a_dead_process_left_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launch before may have had the same run id, port and restart count."""
    monkeypatch.setattr(ranks, "BEGIN_TIMEOUT_SECONDS", 0.2)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = tmp_path / "verdict.json"
    mark = replace(Owner.current(), pid=dead.pid, start_ticks=1).mark
    path.write_text(json.dumps({"state": "verified", "digest": "sha256:1", "owner": mark}))
    with pytest.raises(OfflineError, match="local rank 0 did not begin"):
        wait_for_verdict(path)


def test_an_old_failure_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "BEGIN_TIMEOUT_SECONDS", 0.2)
    path = tmp_path / "verdict.json"
    mark = replace(Owner.current(), pid=2**22 + 1, start_ticks=1).mark
    path.write_text(json.dumps({"state": "failed", "error": "IntegrityError", "owner": mark}))
    with pytest.raises(IntegrityError):
        wait_for_verdict(path)
    os.utime(path, (0, 0))
    with pytest.raises(OfflineError, match="local rank 0 did not begin"):
        wait_for_verdict(path)


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = verdict_path("tiny", {}).parent
    folder.chmod(0o777)
    with pytest.raises(OfflineError, match="only this user may write to"):
        verdict_path("tiny", {})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TORCHELASTIC_RUN_ID", "other"),
        ("TORCHELASTIC_RESTART_COUNT", "1"),
        ("MASTER_PORT", "29501"),
        ("TORCHELASTIC_ERROR_FILE", "/tmp/torchelastic_b/none_y/attempt_0/0/error.json"),
        ("SLURM_STEP_ID", "2"),
    ],
)
def test_another_launch_has_another_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = {
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_ERROR_FILE": "/tmp/a/none_x/attempt_0/0/error.json",
    }
    assert verdict_path("tiny", environment) != verdict_path("tiny", environment | {variable: value})


def test_ranks_of_one_launch_share_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    paths = {
        verdict_path(
            "tiny", {"LOCAL_RANK": str(r), "TORCHELASTIC_ERROR_FILE": f"/tmp/a/none_x/attempt_0/{r}/error.json"}
        )
        for r in range(4)
    }
    assert len(paths) == 1
