"""Nodes that all take the bundle from one place, and share what it can send: a registry, an object store.

Each transfer gets an equal part of the place's rate, and never more than a node can take. The simulation goes from one
event to the next; between events all transfers go on at one rate, so a count of bytes that each has got so far is
enough, and an event costs the logarithm of the number of nodes.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a way of bringing a bundle to nodes took.

    Attributes:
        seconds: Until the last node had the bundle, verified.
        origin_bytes: What left the origin.
    """

    seconds: float
    origin_bytes: float


@dataclass(frozen=True)
class Fleet:
    """The nodes, and what happens to them.

    Attributes:
        nodes: How many.
        node_rate: Bytes of a bundle that a node can take, decode, hash and write, a second.
        dying_share: Share of the nodes that die once, at a random moment of their transfer.
        away_seconds: Until such a node is back.
        keeps_disk: Whether it then finds on its disk what it had, and goes on with the rest.
    """

    nodes: int
    node_rate: float
    dying_share: float
    away_seconds: float
    keeps_disk: bool

    def draw_deaths(self, chance: random.Random) -> dict[int, float]:
        """Return node -> share of the bundle that it has when it dies."""
        dying = chance.sample(range(self.nodes), round(self.nodes * self.dying_share))
        return {node: chance.random() for node in dying}


def share_link(size_bytes: float, origin_rate: float, fleet: Fleet, deaths: Mapping[int, float]) -> Outcome:
    """Simulate nodes that all begin at once, and each bring the whole bundle from the origin.

    Args:
        size_bytes: Of the bundle.
        origin_rate: Bytes a second that the origin sends, to all nodes together.
        fleet: The nodes.
        deaths: node -> share of the bundle that it has when it dies.
    """
    now = sent = 0.0
    # What a transfer has got that began at the start and still goes on.
    received = 0.0
    # When a transfer stops, counted in `received`: (at, node, whether the node dies then).
    stops = [
        (size_bytes * deaths[node], node, True) if node in deaths else (size_bytes, node, False)
        for node in range(fleet.nodes)
    ]
    heapq.heapify(stops)
    # Nodes that are away: (when they are back, bytes still to bring).
    away: list[tuple[float, float]] = []
    while stops or away:
        rate = min(fleet.node_rate, origin_rate / len(stops)) if stops else 0.0
        next_stop = now + (stops[0][0] - received) / rate if stops else float("inf")
        at = min(next_stop, away[0][0] if away else float("inf"))
        sent += (at - now) * rate * len(stops)
        received += (at - now) * rate
        now = at
        if away and away[0][0] <= at:
            _, rest = heapq.heappop(away)
            heapq.heappush(stops, (received + rest, -1, False))
            continue
        received, _, dies = heapq.heappop(stops)
        if dies:
            rest = size_bytes - received if fleet.keeps_disk else size_bytes
            heapq.heappush(away, (now + fleet.away_seconds, rest))
    return Outcome(now, sent)
