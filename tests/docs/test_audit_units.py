"""The cron line and the systemd units of docs/home.md: systemd takes them, and their command does what they say."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from bundler.home.installation.install import install
from docs.generate.sources import ROOT
from tests.support.bundles import locked_repo, tiny_bundle
from tests.support.process import script

PAGE = (ROOT / "docs" / "home.md").read_text()
UNITS = {Path(path).name: text for path, text in re.findall(r"^```ini\n# (\S+)\n(.*?)^```$", PAGE, re.M | re.S)}
[CRON] = re.findall(r"^    [0-9*]+ [0-9*]+ [0-9*]+ [0-9*]+ [0-9*]+  \S+  (/.*)$", PAGE, re.M)
[SERVICE] = re.findall(r"^ExecStart=(.*)$", UNITS["bundle-verify.service"], re.M)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    install(tiny_bundle(tmp_path / "made", locked_repo("org/m", {"a": b"a"}), contents=[b"a"]), tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("name", sorted(UNITS))
def test_systemd_has_nothing_against_a_unit(tmp_path: Path, name: str) -> None:
    for unit, text in UNITS.items():
        # Nothing is installed where the page says, here.
        (tmp_path / unit).write_text(text.replace("/opt/bundle/bin/bundle", str(script("bundle"))))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / name], capture_output=True, text=True, check=False
    )
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd does not run here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_timer_starts_the_service() -> None:
    assert sorted(UNITS) == ["bundle-verify.service", "bundle-verify.timer"]


@pytest.mark.parametrize("line", [CRON, SERVICE], ids=["cron", "systemd"])
def test_the_command_is_silent_while_all_is_well_and_then_is_not(home: Path, line: str) -> None:
    words = shlex.split(
        line.replace("/opt/bundle/bin/bundle", str(script("bundle"))).replace("/shared/hf", str(home))
    )
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    next((home / "hub/models--org--m/blobs").iterdir()).write_bytes(b"b")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "changed: hub/models--org--m/blobs/" in done.stderr) == (6, True)
