"""A bundle over a line that carries nothing back and drops packets: udpcast, as over a data diode, and parity."""

from __future__ import annotations

import random
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from bundler.home.installation.install import install
from bundler.make.split import split_bundle
from bundler.parity.bundle import make_bundle_parity
from tests.support.bundles import locked_repo, tiny_bundle, tree
from tests.support.chunked import cut_small
from tests.support.process import run

_TOOLS = ("udp-sender", "udp-receiver", "unshare", "nsenter", "ip", "iptables")
# Files are sent side by side, each by a sender of its own to a receiver behind a line that drops every twentieth packet
# that is long. What the sender sends besides makes up for that; the file that is named last has none of it.
_SCRIPT = r"""
set -e
sent=$1 received=$2 unlucky=$3
unshare -n sleep 120 & far=$!
trap 'kill $far' EXIT
until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
there() { nsenter -t $far -n "$@"; }
ip link add near type veth peer name far
ip link set far netns $far
ip address add 10.9.0.1/24 dev near
ip link set near up
ip route add 224.0.0.0/4 dev near
there ip address add 10.9.0.2/24 dev far
there ip link set far up
there ip route add 224.0.0.0/4 dev far
there iptables -A OUTPUT -o far -j DROP
port=9000
for file in "$sent"/*; do
  there iptables -A INPUT -p udp --dport $port -m length --length 1000: \
    -m statistic --mode nth --every 20 --packet 7 -j DROP
  there udp-receiver --nokbd --nosync --interface far --portbase $port --mcast-rdv-address 224.7.7.7 \
    --start-timeout 60 --receive-timeout 20 --file "$received/${file##*/}" >"$received.$port" 2>&1 &
  receivers+=($!)
  until grep -q "UDP receiver for" "$received.$port"; do sleep 0.01; done
  port=$((port + 2))
done
port=9000
for file in "$sent"/*; do
  fec="--fec 1x16/64"
  if [ "${file##*/}" = "$unlucky" ]; then fec=""; fi
  udp-sender --nokbd --async $fec --max-bitrate 50m --ttl 1 --interface near --portbase $port --autostart 3 \
    --rexmit-hello-interval 100 --mcast-rdv-address 224.7.7.7 --mcast-data-address 224.7.7.8 \
    --file "$file" >/dev/null 2>&1 &
  port=$((port + 2))
done
wait "${receivers[@]}" || true
"""


def _why_not() -> str | None:
    """Return what is missing, or None."""
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if missing:
        return f"{', '.join(missing)} not found (Debian: udpcast, util-linux, iproute2, iptables)"
    rule = ["-A", "INPUT", "-m", "statistic", "--mode", "nth", "--every", "20", "--packet", "7", "-j", "DROP"]
    probe = ["unshare", "-rn", "iptables", *rule]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"no network namespaces with iptables here: {done.stderr.strip()}" if done.returncode else None


@pytest.mark.skipif(_why_not() is not None, reason=f"{_why_not()}")
def test_what_a_one_way_line_loses_is_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_small(monkeypatch)
    content = {f"w{number}": random.Random(number).randbytes(70_000) for number in range(3)}
    whole = tiny_bundle(tmp_path / "made", locked_repo("org/m", content), contents=content.values(), name="demo")
    sent, received = tmp_path / "sent", tmp_path / "received"
    sent.mkdir()
    received.mkdir()
    # So short that all of one fits into the buffer of its receiver, however late that is.
    volumes = split_bundle(whole, 60_000, sent / whole.name).volumes
    make_bundle_parity([volumes[0]], Fraction(1, 2))
    run(["unshare", "-rn", "bash", "-c", _SCRIPT, "bash", sent, received, volumes[1].name])
    arrived = {path.name: path.read_bytes() == (sent / path.name).read_bytes() for path in received.iterdir()}
    assert arrived == {path.name: path != volumes[1] for path in sent.iterdir()}
    install(whole, tmp_path / "near")
    done = install(received / whole.name, tmp_path / "far")
    assert done.rebuilt == (str(received / volumes[1].name),)
    assert tree(tmp_path / "far") == tree(tmp_path / "near")
