"""One bundle on a thousand nodes: ``python -m benchmarks.scale.run``.

The rates of the real parts are measured on this machine first (`rates.py`); what a cluster has beside them, lines and a
shared file system, is assumed, and said. Then four ways are simulated (`shared_link.py`, `swarm.py`), with nodes that
die and come back with nothing. One point of the simulation is run for real beside it (`real.py`): 16 processes in
network namespaces that install from a registry. With `--write` the table replaces the one in README.md.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.section import circumstances, publish
from benchmarks.scale import namespaces, real, registry
from benchmarks.scale.rates import Rates, measure_rates
from benchmarks.scale.shared_link import Fleet, Outcome, share_link
from benchmarks.scale.swarm import Swarm, share_among_peers

MARKS = Marks("bench-scale")
_GB = 1e9
TARGET_EGRESS = 1.05
_SEED = 1


@dataclass(frozen=True)
class Cluster:
    """What is simulated, and assumed of it.

    Attributes:
        weights_bytes: Of the model; the bundle is smaller.
        nodes: How many.
        dying_share: Share of them that die once while the bundle comes.
        away_seconds: Until such a node is back, with an empty disk.
        registry_line: Bytes a second of the registry's own line.
        node_line: Of each node's.
        store_line: Of an object store, all its lines together.
        file_system_rate: Bytes a second that the shared file system gives to all nodes together.
        local_disk_rate: Bytes a second that a node reads from its own disk.
        swarm: How pieces go from node to node.
    """

    weights_bytes: float
    nodes: int
    dying_share: float
    away_seconds: float
    registry_line: float
    node_line: float
    store_line: float
    file_system_rate: float
    local_disk_rate: float
    swarm: Swarm


@dataclass(frozen=True)
class Way:
    """A row of the table.

    Attributes:
        title: How the bundle comes to the nodes.
        verified_seconds: Until the last node has it, verified.
        loaded_seconds: Until the last node has read the weights then.
        egress: Bytes that left the origin, in bundles.
        second_egress: The same for the next job on these nodes.
    """

    title: str
    verified_seconds: float
    loaded_seconds: float
    egress: float
    second_egress: float


def simulate(cluster: Cluster, rates: Rates) -> list[Way]:
    """Return what each way takes."""
    stored = cluster.weights_bytes * rates.stored_share
    node_rate = min(cluster.node_line, rates.install_rate)
    fleet = Fleet(cluster.nodes, node_rate, cluster.dying_share, cluster.away_seconds, keeps_disk=False)
    deaths = fleet.draw_deaths(random.Random(_SEED))  # noqa: S311 - it protects nothing
    registry_rate = min(cluster.registry_line, rates.registry_rate)
    load_local = cluster.weights_bytes / cluster.local_disk_rate

    def local(title: str, outcome: Outcome, *, kept: bool = True) -> Way:
        egress = outcome.origin_bytes / stored
        second = 0.0 if kept else float(cluster.nodes)
        return Way(title, outcome.seconds, outcome.seconds + load_local, egress, second)

    # One node installs for all, and the others believe its stamps; it dies half-way, and another begins anew.
    shared = 1.5 * stored / min(fleet.node_rate, registry_rate, cluster.file_system_rate)
    if cluster.dying_share:
        shared += cluster.away_seconds
    load_shared = cluster.nodes * cluster.weights_bytes / cluster.file_system_rate
    alone = share_link(stored, registry_rate, fleet, deaths)
    peers = share_among_peers(
        stored,
        registry_rate,
        fleet,
        cluster.swarm,
        deaths,
        random.Random(_SEED),  # noqa: S311
    )
    return [
        Way("shared file system, one installs", shared, shared + load_shared, 1.5, 0.0),
        local("registry, into memory or a disk that is emptied", alone, kept=False),
        local("registry, homes on local disks that are kept", alone),
        local("registry with a peer-to-peer layer, homes kept", peers),
        local("object store, homes kept", share_link(stored, cluster.store_line, fleet, deaths)),
    ]


def markdown(ways: Sequence[Way]) -> str:
    """Return the table."""
    lines = [
        "| way | last node verified | last node has read the weights | left the origin | for the next job | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way in ways:
        goal = ""
        if "peer" in way.title:
            goal = f"{'reached' if way.egress <= TARGET_EGRESS else '**not reached**'}: {TARGET_EGRESS:g} bundles"
        cells = [
            way.title,
            f"{way.verified_seconds:,.0f} s",
            f"{way.loaded_seconds:,.0f} s",
            f"**{way.egress:,.3f}** bundles" if way.egress < 10 else f"{way.egress:,.0f} bundles",
            f"{way.second_egress:,.0f}",
            goal,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compare_with_real(
    work: Path, size_bytes: int, nodes: int, *, origin_rate: float, node_rate: float, deaths: Mapping[int, float]
) -> str:
    """Run a small point for real, simulate the same, and return a sentence about both."""
    bundle = real.make_bundle(work / "real", size_bytes)
    fleet = Fleet(nodes, node_rate, len(deaths) / nodes, 5.0, keeps_disk=False)
    found = real.install_everywhere(work, bundle, fleet, origin_rate=origin_rate, deaths=dict(deaths))
    told = share_link(bundle.stat().st_size, origin_rate, fleet, deaths)
    return (
        f"For real: {nodes} processes in network namespaces install {size_bytes / 1e6:.0f} MB each from "
        f"docker-registry over a line of {origin_rate / 1e6:.0f} MB/s; {len(deaths)} are killed on the way, and begin "
        f"anew 5 s later. The last was verified after **{found.seconds:.1f} s**; the simulation says "
        f"{told.seconds:.1f} s (**{found.seconds / told.seconds:.2f} ×**). {found.origin_bytes / 1e6:,.0f} MB left the "
        f"origin; the simulation says {told.origin_bytes / 1e6:,.0f} MB "
        f"(**{found.origin_bytes / told.origin_bytes:.2f} ×**)."
    )


def describe(cluster: Cluster, rates: Rates) -> str:
    """Return what was measured and what is assumed."""
    return (
        f"Measured here: a bundle takes {rates.stored_share:.3f} of generated bf16 weights, `bundle install` takes "
        f"{rates.install_rate / 1e6:,.0f} MB of it a second, and `bundle pull` brings "
        f"{rates.registry_rate / 1e6:,.0f} MB/s from docker-registry.\n\n"
        f"Assumed: {cluster.weights_bytes / _GB:,.0f} GB of weights, {cluster.nodes:,} nodes that begin at "
        f"once, lines of {cluster.registry_line * 8 / _GB:g} Gbit/s (registry), {cluster.node_line * 8 / _GB:g} "
        f"(node) and {cluster.store_line * 8 / _GB:g} (object store), a shared file system of "
        f"{cluster.file_system_rate / _GB:g} GB/s, local disks of {cluster.local_disk_rate / _GB:g} GB/s. "
        f"{cluster.dying_share:.0%} of the nodes die once at a random moment, and begin anew "
        f"{cluster.away_seconds:.0f} s later with an empty disk; the one that installs for all dies half-way. A node "
        f"works as fast as this machine. Peers give and take {cluster.swarm.slots} of {cluster.swarm.pieces} pieces "
        "at a time. No switch is a bottleneck."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, simulate, run the real point, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Simulate one bundle on its way to many nodes.")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--weights-gb", type=float, default=140.0)
    parser.add_argument("--dying-share", type=float, default=0.1)
    parser.add_argument("--away-seconds", type=float, default=120.0)
    parser.add_argument("--registry-gbit", type=float, default=25.0)
    parser.add_argument("--node-gbit", type=float, default=25.0)
    parser.add_argument("--store-gbit", type=float, default=400.0)
    parser.add_argument("--file-system-gb", type=float, default=40.0, help="GB/s")
    parser.add_argument("--local-disk-gb", type=float, default=3.0, help="GB/s")
    parser.add_argument("--pieces", type=int, default=256)
    parser.add_argument("--real-mb", type=int, default=100, help="size of the bundle of the real point; 0: none")
    parser.add_argument("--work", type=Path, help="a folder with 4 GB of room  [default: a temporary one]")
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md")
    options = parser.parse_args(arguments)
    if problem := registry.why_not() or (options.real_mb and namespaces.why_not()):
        parser.exit(1, f"{problem}\n")
    cluster = Cluster(
        weights_bytes=options.weights_gb * _GB,
        nodes=options.nodes,
        dying_share=options.dying_share,
        away_seconds=options.away_seconds,
        registry_line=options.registry_gbit * _GB / 8,
        node_line=options.node_gbit * _GB / 8,
        store_line=options.store_gbit * _GB / 8,
        file_system_rate=options.file_system_gb * _GB,
        local_disk_rate=options.local_disk_gb * _GB,
        swarm=Swarm(options.pieces, slots=4, send_rate=options.node_gbit * _GB / 8),
    )
    with tempfile.TemporaryDirectory(prefix="bench-scale-", dir=options.work) as folder:
        work = Path(folder)
        machine.check_room(work, 4_000_000_000)
        before = machine.load()
        rates = measure_rates(work)
        ways = simulate(cluster, rates)
        parts = [describe(cluster, rates), markdown(ways)]
        if options.real_mb:
            size = options.real_mb * 1_000_000
            point = compare_with_real(work, size, 16, origin_rate=40e6, node_rate=10e6, deaths={3: 0.3, 11: 0.8})
            parts.append(point)
        text = "\n\n".join([circumstances(work, before, "Once"), *parts])
    publish(MARKS, text, write=options.write)


if __name__ == "__main__":
    main()
