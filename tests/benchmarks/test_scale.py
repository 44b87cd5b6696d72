"""benchmarks.scale: the simulation agrees with what can be worked out by hand, and the real point runs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.scale import namespaces, real, registry
from benchmarks.scale.rates import Rates
from benchmarks.scale.run import Cluster, markdown, simulate
from benchmarks.scale.shared_link import Fleet, share_link
from benchmarks.scale.swarm import Swarm, share_among_peers

SIZE = 100.0


def fleet(nodes: int, *, node_rate: float = 10.0, keeps_disk: bool = False) -> Fleet:
    return Fleet(nodes, node_rate, dying_share=0.0, away_seconds=7.0, keeps_disk=keeps_disk)


@pytest.mark.parametrize(
    ("nodes", "origin_rate", "seconds"),
    [(4, 1000.0, 10.0), (4, 20.0, 20.0), (1, 5.0, 20.0)],
    ids=["a node is the limit", "the origin is the limit", "one node"],
)
def test_a_shared_line_takes_as_long_as_its_slowest_part(nodes: int, origin_rate: float, seconds: float) -> None:
    found = share_link(SIZE, origin_rate, fleet(nodes), {})
    assert (found.seconds, found.origin_bytes) == pytest.approx((seconds, nodes * SIZE))


@pytest.mark.parametrize(("keeps_disk", "seconds", "sent"), [(False, 22.0, 250.0), (True, 17.0, 200.0)])
def test_a_node_that_dies_is_away_and_then_brings_the_rest_or_all(
    keeps_disk: bool, seconds: float, sent: float
) -> None:
    """The other one has all after 10 s; the line is wide enough for both."""
    found = share_link(SIZE, 1000.0, fleet(2, keeps_disk=keeps_disk), {1: 0.5})
    assert (found.seconds, found.origin_bytes) == pytest.approx((seconds, sent))


def test_a_node_that_comes_back_shares_the_line_with_those_that_still_bring() -> None:
    """By hand: 2 nodes at 5 a second each; at 4 s one dies, the other has 80 to go and takes 10 a second.

    At 11 s the first is back, the other has 10 to go: at 5 a second until 13 s. Then 90 are left of the first's 100.
    """
    found = share_link(SIZE, 10.0, fleet(2), {0: 0.2})
    assert found.seconds == pytest.approx(22.0)
    assert found.origin_bytes == pytest.approx(220.0)


def among_peers(nodes: int, deaths: dict[int, float], *, seed: int = 0) -> tuple[float, float]:
    swarm = Swarm(pieces=32, slots=4, send_rate=10.0)
    found = share_among_peers(SIZE, 10.0, fleet(nodes), swarm, deaths, random.Random(seed))
    return found.seconds, found.origin_bytes / SIZE


def test_peers_take_each_piece_from_the_origin_once() -> None:
    seconds, egress = among_peers(40, {})
    assert egress == 1.0
    # No faster than one node alone, and far from 40 times as long, which the origin alone would take.
    assert SIZE / 10.0 <= seconds < 4 * SIZE / 10.0


@pytest.mark.parametrize("seed", range(3))
def test_peers_that_die_cost_time_and_only_the_pieces_that_nobody_else_had(seed: int) -> None:
    few = Fleet(40, 10.0, dying_share=0.1, away_seconds=7.0, keeps_disk=False)
    deaths = few.draw_deaths(random.Random(seed))
    assert len(deaths) == 4
    seconds, egress = among_peers(40, deaths, seed=seed)
    assert 1.0 <= egress < 1.2
    assert seconds >= 7.0 + SIZE / 10.0


def test_a_single_node_among_peers_is_a_node_alone() -> None:
    assert among_peers(1, {}) == (pytest.approx(10.0), 1.0)


def test_the_table_says_whether_the_goal_was_reached() -> None:
    cluster = Cluster(
        weights_bytes=1e9,
        nodes=20,
        dying_share=0.1,
        away_seconds=10,
        registry_line=1e9,
        node_line=1e9,
        store_line=1e10,
        file_system_rate=1e10,
        local_disk_rate=1e9,
        swarm=Swarm(64, slots=4, send_rate=1e9),
    )
    ways = simulate(cluster, Rates(stored_share=0.7, install_rate=5e8, registry_rate=5e8))
    lines = markdown(ways).splitlines()
    assert len(lines) == 2 + len(ways)
    [peers] = [way for way in ways if "peer" in way.title]
    [row] = [line for line in lines if "peer" in line]
    assert ("| reached: 1.05" in row) is (peers.egress <= 1.05)
    assert [way.second_egress for way in ways] == [0.0, 20.0, 0.0, 0.0, 0.0]


@pytest.mark.benchmarks
@pytest.mark.skipif(bool(namespaces.why_not()), reason=str(namespaces.why_not()))
@pytest.mark.skipif(bool(registry.why_not()), reason=str(registry.why_not()))
def test_the_real_point_installs_everywhere_though_a_node_is_killed(tmp_path: Path) -> None:
    bundle = real.make_bundle(tmp_path / "made", 4_000_000)
    few = Fleet(3, node_rate=4e6, dying_share=0.3, away_seconds=0.5, keeps_disk=False)
    found = real.install_everywhere(tmp_path, bundle, few, origin_rate=8e6, deaths={1: 0.5})
    assert found.origin_bytes > 3 * bundle.stat().st_size
    assert all((tmp_path / f"home{number}" / "bundles" / "scale.json").is_file() for number in range(3))
