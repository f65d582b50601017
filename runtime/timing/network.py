"""Routes over the mesh and the time of messages (docs/timing.md, "Messages").

Tiles sit on one mesh that spans all chips; a hop whose ends lie on two chips is a chip link. The host hangs on the
router at (0, 0) by the host link. Routing is along x, then along y, which makes the paths from one node to many,
and from many nodes to one, trees. A message's head takes `hop_latency` a hop and waits where a link is taken; its
tail follows after the bytes over the narrowest link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from isa.events import Bound
from isa.hardware import Hardware
from isa.program import HOST, Channel, Endpoint, Program, Reduce
from isa.timing.critical import NO_RECORD, Records
from isa.timing.rates import ceil_div, tree_levels

from .links import Link

Node = int  # y * mesh_x + x of a router, or HOST


@dataclass(frozen=True, slots=True)
class Edge:
    """A step of a route: from one place of the plan to another, over a link."""

    before: int
    after: int
    link: Link


@dataclass(frozen=True, slots=True)
class Plan:
    """How the messages of a channel travel: places (numbers), where ends are, edges in the order of travel.

    `delay[p]` are the cycles that sums take in the router at place p. `ports` are the ways from the senders' buffers to
    their routers, None for the host.
    """

    sources: tuple[int, ...]
    ports: tuple[Link | None, ...]
    dests: tuple[int, ...]
    edges: tuple[Edge, ...]
    delay: tuple[int, ...]
    bound: Bound

    def links(self, kind: Bound) -> int:
        """Number of links of a kind that each byte goes over."""
        return sum(edge.link.kind is kind for edge in self.edges)


@dataclass(frozen=True, slots=True)
class Arrival:
    """When the last byte is at a receiver, or has left a sender, and the record that decides it."""

    end: int
    record: int


@dataclass(frozen=True, slots=True)
class Journey:
    """When the last byte has left each sender, and when it is at each receiver."""

    departures: list[Arrival]
    arrivals: list[Arrival]


class Network:
    """The links of a target, and routes over them."""

    def __init__(self, target: Hardware, program: Program) -> None:
        self._mesh_x = target.mesh_x
        self._chip_x = int(target.chip.tiles_x.value)
        self._chip_y = int(target.chip.tiles_y.value)
        self._links: dict[tuple[Node, Node], Link] = {}
        self._ports: dict[Node, Link] = {}
        self._tiles = program.tiles
        self._kinds = {
            Bound.NETWORK: (
                target.cycles(target.network.hop_latency),
                target.bytes_per_cycle(target.network.link_width),
            ),
            Bound.CHIP_LINKS: (
                target.cycles(target.chip_link.latency),
                target.bytes_per_cycle(target.chip_link.bandwidth),
            ),
            Bound.HOST_LINK: (
                target.cycles(target.host_link.latency),
                target.bytes_per_cycle(target.host_link.bandwidth),
            ),
        }
        network = target.network
        self._combine_cycles = {
            Reduce.NONE: 0,
            Reduce.SUM: target.cycles(network.reduce_latency),
            Reduce.MAX: target.cycles(network.max_latency),
        }
        self._buffer_width = target.bytes_per_cycle(target.buffer.port_width)

    def reset(self) -> None:
        """As at the beginning of a step."""
        for link in (*self._links.values(), *self._ports.values()):
            link.reset()

    def busy(self, kind: Bound) -> int:
        """Cycles that links of a kind carried bytes."""
        return sum(link.busy for link in self._links.values() if link.kind is kind)

    def node(self, tile: int) -> Node:
        """Where a tile, or the host, sits."""
        return HOST if tile == HOST else self._tiles[tile].y * self._mesh_x + self._tiles[tile].x

    def next_node(self, at: Node, to: Node) -> Node:
        """The next node on the way: along x, then along y; the host is beyond node 0."""
        if at == HOST:
            return 0
        if to == HOST:
            if at == 0:
                return HOST
            to = 0
        x, y = at % self._mesh_x, at // self._mesh_x
        to_x, to_y = to % self._mesh_x, to // self._mesh_x
        if x != to_x:
            return at + (1 if to_x > x else -1)
        return at + (self._mesh_x if to_y > y else -self._mesh_x)

    def _kind(self, a: Node, b: Node) -> Bound:
        if HOST in (a, b):
            return Bound.HOST_LINK
        return Bound.NETWORK if self.chip(a) == self.chip(b) else Bound.CHIP_LINKS

    def chip(self, node: Node) -> tuple[int, int]:
        """Column and row of the chip that a router is on."""
        return node % self._mesh_x // self._chip_x, node // self._mesh_x // self._chip_y

    def link(self, a: Node, b: Node) -> Link:
        """The link from a node to its neighbour."""
        found = self._links.get((a, b))
        if found is None:
            kind = self._kind(a, b)
            found = self._links[a, b] = Link(kind, *self._kinds[kind])
        return found

    def port(self, node: Node) -> Link | None:
        """The way from a tile to its router; the host has none."""
        if node != HOST and node not in self._ports:
            self._ports[node] = Link(Bound.NETWORK, 0, self._kinds[Bound.NETWORK][1])
        return self._ports.get(node)

    def path(self, start: Node, end: Node) -> list[Node]:
        """The nodes from `start` to `end`, both included."""
        nodes = [start]
        while nodes[-1] != end:
            nodes.append(self.next_node(nodes[-1], end))
        return nodes

    def plan(self, channel: Channel) -> Plan:
        """The route of a channel: from several senders in a tree to the first receiver, then out in a tree."""
        return self._plan(channel.sources, channel.dests, self._combine_cycles[channel.reduce])

    def barrier_plan(self, members: Sequence[Endpoint]) -> Plan:
        """The route of a barrier's control words: in a tree to the first member, and back to all."""
        return self._plan(members, members, 0)

    def _plan(self, sources: Sequence[Endpoint], dests: Sequence[Endpoint], reduce_cycles: int) -> Plan:
        planner = _Planner(self, reduce_cycles)
        return planner.plan([self.node(e.tile) for e in sources], [self.node(e.tile) for e in dests])

    def transmit(self, plan: Plan, size: int, ready: int, record: int, records: Records) -> Journey:
        """Send `size` bytes along a plan from `ready` on."""
        places = len(plan.delay)
        head, tail, holder = [0] * places, [0] * places, [record] * places
        left, sent = [0] * places, ready + ceil_div(size, self._buffer_width)
        for place, port in zip(plan.sources, plan.ports, strict=True):
            head[place], tail[place], left[place] = ready, sent, sent
            if port is not None and size:
                port.forget(ready)
                begin, occupied, blocker = port.take(ready, size)
                if blocker != NO_RECORD:
                    holder[place] = records.resume(record, begin, blocker)
                port.hold(begin, occupied, size, holder[place])
                head[place], left[place] = begin, max(sent, begin + occupied)
                tail[place] = left[place]
        for edge in plan.edges:
            link, before, after = edge.link, edge.before, edge.after
            begin, mine = head[before] + plan.delay[before], holder[before]
            last = tail[before] + plan.delay[before] + link.latency
            occupied = 0
            if size:
                link.forget(ready)
                begin, occupied, blocker = link.take(begin, size)
                if blocker != NO_RECORD:
                    mine = records.resume(record, begin, blocker)
                link.hold(begin, occupied, size, mine)
            if begin + link.latency >= head[after]:
                head[after], holder[after] = begin + link.latency, mine
            tail[after] = max(tail[after], last, begin + link.latency + occupied)
            left[before] = max(left[before], begin + occupied)
        return Journey(
            [Arrival(left[place], holder[place]) for place in plan.sources],
            [Arrival(tail[place] + plan.delay[place], holder[place]) for place in plan.dests],
        )


class _Planner:
    """Builds the plan of one channel."""

    def __init__(self, network: Network, reduce_cycles: int) -> None:
        self._network = network
        self._reduce_cycles = reduce_cycles
        self._edges: list[Edge] = []
        self._inputs: list[int] = []

    def _place(self) -> int:
        self._inputs.append(0)
        return len(self._inputs) - 1

    def _add(self, before: int, after: int, a: Node, b: Node) -> None:
        self._edges.append(Edge(before, after, self._network.link(a, b)))
        self._inputs[after] += 1

    def _gather(self, sources: Sequence[Node], root: Node) -> tuple[list[int], int]:
        """Places of the sources and of the root, after adding the tree that leads to it."""
        paths = [self._network.path(node, root) for node in sources]
        distance = {node: len(path) - i for path in paths for i, node in enumerate(path)}
        following = {a: b for path in paths for a, b in pairwise(path)}
        place = {node: self._place() for node in distance}
        for node in sources:
            self._inputs[place[node]] += 1
        for node in sorted(following, key=lambda n: (-distance[n], n)):
            self._add(place[node], place[following[node]], node, following[node])
        return [place[node] for node in sources], place[root]

    def _spread(self, root: Node, root_place: int, dests: Sequence[Node]) -> list[int]:
        """Places of the receivers, after adding the tree that leads to them from the root."""
        place = {root: root_place}
        for dest in dests:
            nodes = self._network.path(root, dest)
            for a, b in pairwise(nodes):
                if b not in place:
                    place[b] = self._place()
                    self._add(place[a], place[b], a, b)
        return [place[dest] for dest in dests]

    def plan(self, sources: Sequence[Node], dests: Sequence[Node]) -> Plan:
        """The plan for these ends."""
        root = sources[0] if len(sources) == 1 else dests[0]
        source_places, root_place = self._gather(sources, root)
        dest_places = self._spread(root, root_place, dests)
        delay = tuple(tree_levels(inputs) * self._reduce_cycles for inputs in self._inputs)
        return Plan(
            tuple(source_places),
            tuple(self._network.port(node) for node in sources),
            tuple(dest_places),
            tuple(self._edges),
            delay,
            self._bound(sources, dests),
        )

    def _bound(self, sources: Sequence[Node], dests: Sequence[Node]) -> Bound:
        kinds = {edge.link.kind for edge in self._edges}
        if HOST in (*sources, *dests):
            return Bound.HOST_LINK
        return Bound.CHIP_LINKS if Bound.CHIP_LINKS in kinds else Bound.NETWORK
