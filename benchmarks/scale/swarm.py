"""Nodes that give each other what they have: a registry with a peer-to-peer layer (Dragonfly, Kraken, Spegel).

The bundle is cut into pieces. A node that has a piece gives it to others; a scheduler, as Dragonfly has one, lets a
node bring a piece from the origin only if no living node has it and none is bringing it. A node gives and takes
several pieces at a time, each at an equal part of its rate (slots): a slot that is idle gives its part to nobody, so
the times are rather too long. Pieces are coarser than those of the engines, which is too long as well: a piece can be
given on only when it is whole.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.scale.shared_link import Fleet, Outcome

_TRIES = 12


@dataclass(frozen=True)
class Swarm:
    """How pieces go from node to node.

    Attributes:
        pieces: Number of pieces that the bundle is cut into.
        slots: Pieces that a node gives, and takes, at a time.
        send_rate: Bytes a second that a node can give.
    """

    pieces: int
    slots: int
    send_rate: float


@dataclass
class _Node:
    has: int = 0
    coming: int = 0
    taking: int = 0
    giving: int = 0
    alive: bool = True
    # A transfer that began in an earlier life of the node has no effect.
    life: int = 0
    dies_with: int | None = None


@dataclass
class _Run:
    """A simulation that is under way."""

    size_bytes: float
    origin_rate: float
    fleet: Fleet
    swarm: Swarm
    chance: random.Random
    nodes: list[_Node]
    now: float = 0.0
    origin_bytes: float = 0.0
    from_origin: int = 0
    holders: list[int] = field(default_factory=list)
    # The pieces that nobody alive has, as bits.
    unheld: int = 0
    # Of each piece, how many nodes are getting it from another one; and, as bits, what only one has and nobody gets.
    given: list[int] = field(default_factory=list)
    lone: int = 0
    on_its_way: int = 0
    events: list[tuple[float, int, str, tuple[int, ...]]] = field(default_factory=list)
    _number: int = 0

    def push(self, at: float, kind: str, *values: int) -> None:
        self._number += 1
        heapq.heappush(self.events, (at, self._number, kind, values))

    def take(self, index: int) -> None:
        """Begin as many transfers to a node as it has slots for; ask again later if it finds nothing."""
        node = self.nodes[index]
        while node.alive and node.taking < self.swarm.slots and node.has | node.coming != self._all:
            if not (self._take_from_peer(index) or self._take_from_origin(index)):
                self.push(self.now + self._piece_seconds / 4, "look", index, node.life)
                return

    @property
    def _all(self) -> int:
        return (1 << self.swarm.pieces) - 1

    @property
    def _piece_bytes(self) -> float:
        return self.size_bytes / self.swarm.pieces

    @property
    def _piece_seconds(self) -> float:
        return self._piece_bytes * self.swarm.slots / min(self.fleet.node_rate, self.swarm.send_rate)

    def _take_from_peer(self, index: int) -> bool:
        node = self.nodes[index]
        wanted = self._all & ~node.has & ~node.coming
        for _ in range(_TRIES):
            giver = self.chance.randrange(len(self.nodes))
            other = self.nodes[giver]
            offered = other.has & wanted
            if other.alive and other.giving < self.swarm.slots and offered and giver != index:
                piece = self._pick(offered)
                other.giving += 1
                node.taking += 1
                node.coming |= 1 << piece
                self.count(piece, given=1)
                self.push(self.now + self._piece_seconds, "from peer", index, node.life, piece, giver, other.life)
                return True
        return False

    def _pick(self, offered: int) -> int:
        """Return the piece that the fewest nodes have, of some at random."""
        offered = offered & self.lone or offered
        bits = [bit for bit in self.chance.choices(range(self.swarm.pieces), k=8) if offered >> bit & 1]
        bits.append(self._low_bit_from(offered, self.chance.randrange(self.swarm.pieces)))
        return min(bits, key=lambda bit: self.holders[bit])

    def _low_bit_from(self, bits: int, start: int) -> int:
        above = bits >> start
        found = above if above else bits
        return (found & -found).bit_length() - 1 + (start if above else 0)

    def _take_from_origin(self, index: int) -> bool:
        node = self.nodes[index]
        lacking = self.unheld & ~node.coming & ~self.on_its_way
        rate = min(self.fleet.node_rate / self.swarm.slots, self.origin_rate / self.swarm.slots)
        if not lacking or self.from_origin >= self.origin_rate // rate:
            return False
        piece = self._low_bit_from(lacking, self.chance.randrange(self.swarm.pieces))
        node.taking += 1
        node.coming |= 1 << piece
        self.on_its_way |= 1 << piece
        self.from_origin += 1
        self.push(self.now + self._piece_bytes / rate, "from origin", index, node.life, piece)
        return True

    def receive(self, index: int, life: int, piece: int) -> None:
        node = self.nodes[index]
        if not node.alive or node.life != life:
            return
        node.taking -= 1
        node.coming &= ~(1 << piece)
        node.has |= 1 << piece
        self.count(piece, holders=1)
        if node.dies_with is not None and node.has.bit_count() >= node.dies_with:
            self._die(index)

    def count(self, piece: int, *, holders: int = 0, given: int = 0) -> None:
        """Keep account of a piece that more or fewer nodes have or get."""
        self.holders[piece] += holders
        self.given[piece] += given
        bit = 1 << piece
        self.unheld = self.unheld & ~bit if self.holders[piece] else self.unheld | bit
        is_lone = self.holders[piece] == 1 and not self.given[piece]
        self.lone = self.lone | bit if is_lone else self.lone & ~bit

    def _die(self, index: int) -> None:
        node = self.nodes[index]
        for piece in range(self.swarm.pieces):
            self.count(piece, holders=-(node.has >> piece & 1))
        node.alive, node.dies_with = False, None
        self.push(self.now + self.fleet.away_seconds, "back", index)

    def come_back(self, index: int) -> None:
        node = self.nodes[index]
        node.alive, node.life = True, node.life + 1
        node.coming = node.taking = node.giving = 0
        if not self.fleet.keeps_disk:
            node.has = 0
        for piece in range(self.swarm.pieces):
            self.count(piece, holders=node.has >> piece & 1)


def share_among_peers(
    size_bytes: float,
    origin_rate: float,
    fleet: Fleet,
    swarm: Swarm,
    deaths: Mapping[int, float],
    chance: random.Random,
) -> Outcome:
    """Simulate nodes that all begin at once, and take from each other what one of them has.

    Args:
        size_bytes: Of the bundle.
        origin_rate: Bytes a second that the origin sends, to all nodes together.
        fleet: The nodes.
        swarm: How pieces go from node to node.
        deaths: node -> share of the bundle that it has when it dies.
        chance: Decides who asks whom, and for what.
    """
    nodes = [_Node() for _ in range(fleet.nodes)]
    for index, share in deaths.items():
        nodes[index].dies_with = max(1, round(share * swarm.pieces))
    run = _Run(size_bytes, origin_rate, fleet, swarm, chance, nodes)
    run.holders, run.given, run.unheld = [0] * swarm.pieces, [0] * swarm.pieces, (1 << swarm.pieces) - 1
    for index in range(fleet.nodes):
        run.take(index)
    ended = 0.0
    while run.events:
        run.now, _, kind, values = heapq.heappop(run.events)
        index = values[0]
        if kind == "look":
            if nodes[index].life != values[1]:
                continue
        elif kind == "back":
            run.come_back(index)
        elif kind == "from origin":
            _, life, piece = values
            run.from_origin -= 1
            run.on_its_way &= ~(1 << piece)
            run.origin_bytes += size_bytes / swarm.pieces
            run.receive(index, life, piece)
        else:
            _, life, piece, giver, giver_life = values
            other = nodes[giver]
            run.count(piece, given=-1)
            if other.alive and other.life == giver_life:
                other.giving -= 1
                run.receive(index, life, piece)
            else:
                # The giver died: the piece has to be asked for again.
                _give_up(nodes[index], life, piece)
        if nodes[index].alive:
            if nodes[index].has == (1 << swarm.pieces) - 1:
                ended = run.now
            run.take(index)
    return Outcome(ended, run.origin_bytes)


def _give_up(node: _Node, life: int, piece: int) -> None:
    if node.alive and node.life == life:
        node.taking -= 1
        node.coming &= ~(1 << piece)
