"""The real nscd, which asks outside for whoever asks on its socket (glibc does, before it reads nsswitch.conf)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.offline.conftest import KINDS
from tests.support.network.outside import OUTSIDE, Left, outside
from tests.support.process import script

_NAME = b"\x06bundle\x07example\x03org"
_SETTINGS = """
enable-cache hosts yes
shared hosts no
enable-cache passwd no
enable-cache group no
enable-cache services no
enable-cache netgroup no
"""
# The daemon takes the place of the one that `outside` has listen there; it gives up on names of other hosts at once.
_START = """
set -e
mount --bind "$0/resolv.conf" /etc/resolv.conf
mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf
rm /run/nscd/socket
nscd --foreground --config-file "$0/nscd.conf" & daemon=$!
until [ -S /run/nscd/socket ]; do kill -0 "$daemon"; sleep 0.05; done
set +e
"$@" getent hosts bundle.example.org >&2
kill "$daemon"
wait
"""


def _look_up(folder: Path, *launcher: str | Path) -> Left:
    folder.mkdir()
    (folder / "resolv.conf").write_text(f"nameserver {OUTSIDE}\noptions timeout:1 attempts:1\n")
    (folder / "nsswitch.conf").write_text("hosts: files dns\n")
    (folder / "nscd.conf").write_text(_SETTINGS)
    return outside(["sh", "-c", _START, folder, *launcher])


@pytest.mark.skipif(not shutil.which("nscd"), reason="this machine has no nscd")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_a_name_is_not_looked_up_by_the_real_nscd(home: Path, tmp_path: Path, kind: str) -> None:
    # Whoever has no network at all is answered by the daemon's.
    control = _look_up(tmp_path / "control", "unshare", "--net")
    assert any(_NAME.hex() in packet for packet in control.packets), control
    launcher = (script("bundle"), "run", "--hf-home", home, "--isolate", kind, "--")
    left = _look_up(tmp_path / "launch", *launcher)
    assert left.packets == [], left
