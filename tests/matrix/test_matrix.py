"""Everything that people load: fetched from a Hub, installed elsewhere, loaded through `bundle run` with no attempt.

`loads.py` has the loads and `manifest.yaml` the entries. They run twice, each time all in one process: in an
environment as bad as they come, and there on a cache that is mounted read-only.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from tests.matrix.loads import CASES
from tests.support.process import run, script

pytestmark = pytest.mark.slow

# What the error that this project was born from needs, and a setting that undoes offline mode.
BAD = {"HTTPS_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
PYTHON = script("python")


def outcomes(bundle: Path, name: str, *, read_only: bool) -> dict[str, str | None]:
    """Install the bundle into a folder of this name, run the loads on it, and return what came of each."""
    folder = bundle.parent / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "outcomes.json").exists():
            home, temporary = folder / "hf", folder / "tmp"
            temporary.mkdir(parents=True)
            run([script("bundle"), "install", bundle, "--hf-home", home])
            argv: list[str | Path] = [script("bundle"), "run", "--hf-home", home, "--strict", "--"]
            argv += [PYTHON, "-m", "tests.matrix.loads"]
            if read_only:
                # Root writes anywhere else; the mount is seen by this process tree only.
                mount = f'mount --bind {home} {home} && mount -o remount,bind,ro {home} && exec "$@"'
                prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
                if (
                    shutil.which("unshare") is None
                    or subprocess.run([*prefix, "true"], capture_output=True).returncode
                ):
                    pytest.skip("this machine lets nobody make a read-only mount")
                argv = [*prefix, *argv]
            done = run(argv, env={**BAD, "HOME": str(folder), "TMPDIR": str(temporary)}, check=False)
            (folder / "report.txt").write_text(f"exit code {done.returncode}\n{done.stderr}")
            (folder / "outcomes.json").write_text(done.stdout)
    text = (folder / "outcomes.json").read_text()
    assert text, (folder / "report.txt").read_text()
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("case", CASES)
def test_it_loads_offline(matrix_bundle: Path, case: str) -> None:
    failure = outcomes(matrix_bundle, "plain", read_only=False)[case]
    assert failure is None, failure


@pytest.mark.parametrize("case", CASES)
def test_it_loads_from_a_read_only_home(matrix_bundle: Path, case: str) -> None:
    failure = outcomes(matrix_bundle, "read-only", read_only=True)[case]
    assert failure is None, failure


@pytest.mark.parametrize(("name", "read_only"), [("plain", False), ("read-only", True)])
def test_not_one_attempt_at_the_network_was_made(matrix_bundle: Path, name: str, read_only: bool) -> None:
    outcomes(matrix_bundle, name, read_only=read_only)
    report = (matrix_bundle.parent / name / "report.txt").read_text()
    assert "attempts   0" in report
    assert report.startswith("exit code 0"), "--strict makes an attempt a failure"


def test_fetching_proves_what_is_odd_about_entries(matrix_bundle: Path) -> None:
    log = (matrix_bundle.parent / "fetch.log").read_text()
    for line in (
        "processor loads as org/sound",
        "its base model org/tiny is in the bundle",
        "its own Python is imported (2 of 2 classes)",
        "has only Python code for other entries (2 files)",
        "extra.jsonl/train: 4 rows",
    ):
        assert f"proven: {line}" in log or line in log
    assert "warning" not in log, "every companion is there, though one goes by its old name in the manifest"
