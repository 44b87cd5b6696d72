"""One point of the simulation run for real: processes that install from a registry, and two that are killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale import registry
from benchmarks.scale.namespaces import ORIGIN_ADDRESS, PAYLOAD_SHARE, Cluster, make_cluster
from benchmarks.scale.shared_link import Fleet, Outcome
from tests.support.bundles import locked_repo, tiny_bundle

_FILES = 4
_LOOK_SECONDS = 0.1


@dataclass
class _Node:
    name: str
    home: Path
    # Bytes that it has received when it is to die; None: it lives.
    dies_at: float | None
    process: subprocess.Popen[bytes] | None = None
    back_at: float | None = None
    received_before: int = 0
    done: bool = False


def make_bundle(folder: Path, size_bytes: int) -> Path:
    """Pack random bytes, which no compression makes smaller."""
    dice = random.Random(1)  # noqa: S311 - they protect nothing
    contents = {f"{number}.bin": dice.randbytes(size_bytes // _FILES) for number in range(_FILES)}
    folder.mkdir()
    return tiny_bundle(folder, locked_repo("org/scale", contents), contents=contents.values(), name="scale")


def install_everywhere(
    work: Path, bundle: Path, fleet: Fleet, *, origin_rate: float, deaths: dict[int, float]
) -> Outcome:
    """Let every node install the bundle from a registry, all at once, over lines of limited rate.

    Args:
        work: A folder for the homes.
        bundle: What is installed.
        fleet: How many nodes, the rate of their lines, and how long one that died is away. It begins anew.
        origin_rate: Bytes a second that the registry's line carries.
        deaths: node -> share of the bundle that it has received when it is killed.
    """
    size_bytes = bundle.stat().st_size
    with make_cluster(
        fleet.nodes, origin_rate=origin_rate / PAYLOAD_SHARE, node_rate=fleet.node_rate / PAYLOAD_SHARE
    ) as cluster:
        origin = cluster.inside(cluster.origin)
        _bring_up_loopback(origin)
        with registry.serve(work, ORIGIN_ADDRESS, bundle, inside=origin) as place:
            nodes = [
                _Node(name, work / f"home{number}", size_bytes * deaths[number] if number in deaths else None)
                for number, name in enumerate(cluster.nodes)
            ]
            sent_before = cluster.count_bytes(cluster.origin, "tx")
            begun = time.monotonic()
            for node in nodes:
                _start(cluster, node, place)
            while not all(node.done for node in nodes):
                time.sleep(_LOOK_SECONDS)
                for node in nodes:
                    _look(cluster, node, place, fleet.away_seconds)
            seconds = time.monotonic() - begun
            sent = cluster.count_bytes(cluster.origin, "tx") - sent_before
    return Outcome(seconds, sent * PAYLOAD_SHARE)


def _bring_up_loopback(origin: Sequence[str]) -> None:
    subprocess.run([*origin, "ip", "link", "set", "lo", "up"], check=True)


def _start(cluster: Cluster, node: _Node, place: str) -> None:
    shutil.rmtree(node.home, ignore_errors=True)
    node.received_before = cluster.count_bytes(node.name, "rx")
    words = [registry.BUNDLE, "install", place, "--hf-home", node.home]
    with Path(f"{node.home}.log").open("wb") as log:
        node.process = subprocess.Popen(
            [*cluster.inside(node.name), *map(str, words)], stdout=log, stderr=log, start_new_session=True
        )


def _count_received(cluster: Cluster, node: _Node) -> float:
    return (cluster.count_bytes(node.name, "rx") - node.received_before) * PAYLOAD_SHARE


def _look(cluster: Cluster, node: _Node, place: str, away_seconds: float) -> None:
    if node.process is None:
        if node.back_at is not None and time.monotonic() >= node.back_at:
            node.back_at = None
            _start(cluster, node, place)
        return
    if node.dies_at is not None and _count_received(cluster, node) >= node.dies_at:
        os.killpg(node.process.pid, signal.SIGKILL)
        node.process.wait()
        node.process, node.dies_at, node.back_at = None, None, time.monotonic() + away_seconds
    elif (code := node.process.poll()) is not None:
        if code:
            raise OSError(f"{node.name} ended with {code}: {Path(f'{node.home}.log').read_text()}")
        node.process, node.done = None, True
