"""Messages on their way (`runtime.timing.network.Network.transmit`, `runtime.timing.messages`)."""

from __future__ import annotations

from .arena import add_record, note_end
from .flights import NUMBER, finish, let_go_on, name_of, operation_at, tile_of
from .jit import Floats, Items, Words, compiled, fetch
from .layout import (
    E_ARRIVED,
    E_BYTES,
    E_EARLY,
    E_KIND,
    E_LINK,
    E_POST,
    E_RECORD,
    E_SIZE,
    E_START,
    E_STARTED,
    E_WAY,
    FLIGHT_BITS,
    G_BEFORE,
    G_DELAY,
    G_KIND,
    G_LINK,
    G_SIZE,
    G_WAY,
    H_ARG,
    H_ARG_AT,
    H_ARG_RECORD,
    H_BUSY_NETWORK,
    H_BYTES,
    H_CYCLES,
    H_EVENTS,
    H_MESSAGES,
    H_NODES,
    H_SCRATCH,
    I_COUNTS,
    I_MOST,
    I_NEXT,
    I_SIZE,
    I_WAITERS,
    I_WHAT,
    LATENCY_BITS,
    LINK_KINDS,
    M_BOUND,
    M_CHIP_HOPS,
    M_DELAYS,
    M_EDGE_COUNT,
    M_EDGES,
    M_END_COUNT,
    M_ENDS,
    M_GATHERING,
    M_HAS_ARRIVED,
    M_HOPS,
    M_HOST_AT,
    M_HOST_HOPS,
    M_HOST_RECORD,
    M_HOST_SIZE,
    M_IS_BARRIER,
    M_LAST,
    M_PLACE_COUNT,
    M_POSTS,
    M_SOURCES,
    MOST_KINDS,
    MOST_LATENCY,
    MOST_PLACES,
    NO_RECORD,
    NUMBER_BITS,
    O_ITEM,
    PLACE_DECIDES,
    PLACE_HEAD,
    PLACE_LEFT,
    PLACE_SIZE,
    PLACE_TAIL,
    RATE_BUFFER,
    TILE_NETWORK_UNTIL,
    TILE_NODES,
    TILE_SEQUENCE,
    WHAT_BOUND,
    WHAT_INDEX,
)
from .links import carry, cycles_of
from .units import NO_SIZE, fill_end, is_complete, meet

CONTROL_BYTES = 4
HOP, CHIP_LINK, HOST_LINK, REDUCE, MESSAGE_EVENTS = range(5)  # what is counted by node


@compiled
def agreed_size(m: Words, meeting: int) -> int:
    """The size that all ends of a message say; -1 if they differ."""
    size, end = m[meeting + M_HOST_SIZE], m[meeting + M_ENDS]
    for _ in range(m[meeting + M_END_COUNT]):
        if m[end + E_POST]:
            if size not in (NO_SIZE, m[end + E_BYTES]):
                return -1
            size = m[end + E_BYTES]
        end += E_SIZE
    return size


@compiled
def note_cycles(m: Words, rates: Floats, size: int) -> None:
    """Work out how long links of each kind are taken by a message."""
    for kind in range(LINK_KINDS):
        m[H_CYCLES + kind] = cycles_of(size, rates[kind])


@compiled
def leave_senders(
    m: Words, f: Floats, rates: Floats, meeting: int, size: int, ready: int, record: int
) -> None:
    """What all senders put on their ways into their routers."""
    at = m[H_SCRATCH]
    for place in range(at, at + PLACE_SIZE * m[meeting + M_PLACE_COUNT], PLACE_SIZE):
        m[place + PLACE_HEAD] = m[place + PLACE_TAIL] = m[place + PLACE_LEFT] = 0
        m[place + PLACE_DECIDES] = record
    sent = ready + cycles_of(size, rates[RATE_BUFFER])
    end = m[meeting + M_ENDS]
    for _ in range(m[meeting + M_SOURCES]):
        way = m[end + E_WAY]
        place, link = at + PLACE_SIZE * (way & MOST_PLACES), way >> E_LINK
        m[place + PLACE_HEAD] = ready
        m[place + PLACE_TAIL] = m[place + PLACE_LEFT] = sent
        if link and size:
            kind = way >> E_KIND & MOST_KINDS
            begin, occupied, mine = carry(
                m,
                f,
                link,
                ready,
                ready,
                size,
                m[H_CYCLES + kind],
                rates[kind],
                record,
                m[place + PLACE_DECIDES],
            )
            m[place + PLACE_DECIDES] = mine
            m[place + PLACE_HEAD] = begin
            m[place + PLACE_TAIL] = m[place + PLACE_LEFT] = max(sent, begin + occupied)
        end += E_SIZE


@compiled
def go_over(
    m: Words, f: Floats, k: Words, rates: Floats, edge: int, size: int, ready: int, record: int
) -> None:
    """A message goes over a link, from one place of its route to another."""
    at, link, way = m[H_SCRATCH], k[edge + G_LINK] >> LATENCY_BITS, k[edge + G_WAY]
    before = at + PLACE_SIZE * (way >> G_BEFORE & MOST_PLACES)
    after = at + PLACE_SIZE * (way & MOST_PLACES)
    latency, kind, delay = k[edge + G_LINK] & MOST_LATENCY, way >> G_KIND & MOST_KINDS, way >> G_DELAY
    begin, mine = m[before + PLACE_HEAD] + delay, m[before + PLACE_DECIDES]
    last, occupied = m[before + PLACE_TAIL] + delay + latency, 0
    if size:
        begin, occupied, mine = carry(
            m, f, link, ready, begin, size, m[H_CYCLES + kind], rates[kind], record, mine
        )
    if begin + latency >= m[after + PLACE_HEAD]:
        m[after + PLACE_HEAD] = begin + latency
        m[after + PLACE_DECIDES] = mine
    m[after + PLACE_TAIL] = max(m[after + PLACE_TAIL], last, begin + latency + occupied)
    m[before + PLACE_LEFT] = max(m[before + PLACE_LEFT], begin + occupied)


@compiled
def arrive(m: Words, k: Words, meeting: int) -> tuple[int, int]:
    """When the receivers have a message, not before the one before; the latest of them."""
    at, latest, decides = m[H_SCRATCH], -1, NO_RECORD
    first = 0 if m[meeting + M_IS_BARRIER] else m[meeting + M_SOURCES]
    # A barrier's members are its receivers, too; where they are as such is behind the ends.
    shift = m[meeting + M_END_COUNT] if m[meeting + M_IS_BARRIER] else 0
    for which in range(first, m[meeting + M_END_COUNT]):
        end = m[meeting + M_ENDS] + E_SIZE * which
        number = m[end + E_SIZE * shift + E_WAY] & MOST_PLACES
        place = at + PLACE_SIZE * number
        arrived = m[place + PLACE_TAIL] + k[m[meeting + M_DELAYS] + number]
        if not m[meeting + M_HAS_ARRIVED] or m[end + E_ARRIVED] <= arrived:
            m[end + E_ARRIVED] = arrived
            m[end + E_RECORD] = m[place + PLACE_DECIDES]
        if m[end + E_ARRIVED] > latest:
            latest, decides = m[end + E_ARRIVED], m[end + E_RECORD]
    m[meeting + M_HAS_ARRIVED] = 1
    return latest, decides


@compiled
def end_posts(m: Words, t: Items, meeting: int, start: int) -> None:
    """All that came to the message are over: senders when it has left, receivers when it is there."""
    at, is_barrier = m[H_SCRATCH], m[meeting + M_IS_BARRIER]
    for which in range(m[meeting + M_END_COUNT]):
        end = m[meeting + M_ENDS] + E_SIZE * which
        post = m[end + E_POST]
        if post == 0:
            continue
        over, decides = m[end + E_ARRIVED], m[end + E_RECORD]
        if which < m[meeting + M_SOURCES] and not is_barrier:
            place = at + PLACE_SIZE * (m[end + E_WAY] & MOST_PLACES)
            over, decides = m[place + PLACE_LEFT], m[place + PLACE_DECIDES]
        tile, number = tile_of(m, post), post & NUMBER
        m[H_BUSY_NETWORK] += max(0, over - max(start, m[tile + TILE_NETWORK_UNTIL]))
        m[tile + TILE_NETWORK_UNTIL] = max(m[tile + TILE_NETWORK_UNTIL], over)
        finish(m, t, tile, number, operation_at(m, tile, number), over, decides)
        if is_barrier:
            let_go_on(m, tile)


@compiled
def gather_next(m: Words, t: Items, meeting: int) -> None:
    """Gather the next message; at each end the first who came early has come to it."""
    posts, end = 0, m[meeting + M_ENDS]
    for _ in range(m[meeting + M_END_COUNT]):
        post = m[end + E_POST]
        if m[end + E_EARLY]:
            m[end + E_EARLY] -= 1
            tile, number = tile_of(m, post), post & NUMBER
            item = m[operation_at(m, tile, number) + O_ITEM]
            fill_end(m, t, end, name_of(m, tile, number + t[item + I_NEXT]))
            posts += 1
        else:
            m[end + E_POST] = 0
        end += E_SIZE
    m[meeting + M_POSTS] = posts
    m[meeting + M_GATHERING] = 1


@compiled
def count_message(m: Words, meeting: int, size: int, node: int) -> None:
    """Count the bytes over links, on behalf of a node."""
    is_barrier = m[meeting + M_IS_BARRIER]
    carried = CONTROL_BYTES if is_barrier else size
    events, nodes = m[H_EVENTS] + node, m[H_NODES]
    m[events + HOP * nodes] += carried * m[meeting + M_HOPS]
    m[events + CHIP_LINK * nodes] += carried * m[meeting + M_CHIP_HOPS]
    m[events + HOST_LINK * nodes] += carried * m[meeting + M_HOST_HOPS]
    if not is_barrier:
        m[events + REDUCE * nodes] += (m[meeting + M_SOURCES] - 1) * (size // 4)
        m[H_MESSAGES] += 1
        m[H_BYTES] += size


@compiled
def first_post(m: Words, meeting: int) -> int:
    """The operation at the first end that is a tile's."""
    end = m[meeting + M_ENDS] + E_POST
    while m[end] == 0:
        end += E_SIZE
    return m[end]


@compiled
def fetch_links(m: Words, k: Words, meeting: int) -> None:
    """Have the links of a message's route brought near."""
    edges = m[meeting + M_EDGES]
    for edge in range(edges, edges + G_SIZE * m[meeting + M_EDGE_COUNT], G_SIZE):
        fetch(m, k[edge + G_LINK] >> LATENCY_BITS)


@compiled
def fetch_posts(m: Words, meeting: int) -> None:
    """Have what came to a message brought near."""
    end = m[meeting + M_ENDS]
    for _ in range(m[meeting + M_END_COUNT]):
        post = m[end + E_POST]
        if post:
            fetch(m, operation_at(m, tile_of(m, post), post & NUMBER))
        end += E_SIZE


@compiled
def fetch_waiters(m: Words, t: Items, meeting: int) -> None:
    """Have what waits for those who came to a message brought near, and what comes to the next one."""
    end = m[meeting + M_ENDS]
    for _ in range(m[meeting + M_END_COUNT]):
        post = m[end + E_POST]
        if post:
            tile, number = tile_of(m, post), post & NUMBER
            item = m[operation_at(m, tile, number) + O_ITEM]
            if m[end + E_EARLY]:
                fetch(m, operation_at(m, tile, number + t[item + I_NEXT]))
            counts = t[item + I_COUNTS]
            first = item + I_SIZE + (counts & I_MOST)
            for at in range(first, first + (counts >> I_WAITERS)):
                other = number + (t[at] >> FLIGHT_BITS)
                if other > m[tile + TILE_SEQUENCE]:
                    break
                fetch(m, operation_at(m, tile, other))
        end += E_SIZE


@compiled
def transmit(m: Words, f: Floats, t: Items, k: Words, rates: Floats, meeting: int) -> bool:
    """Everyone is there: send the message on its way. False if the ends say different sizes."""
    size = 0 if m[meeting + M_IS_BARRIER] else agreed_size(m, meeting)
    if size < 0:
        return False
    last, first = m[meeting + M_LAST], first_post(m, meeting)
    start = max(m[last + E_START], m[meeting + M_HOST_AT])
    is_by_tile = start == m[last + E_START]
    cause = m[last + E_STARTED] if is_by_tile else m[meeting + M_HOST_RECORD]
    tile = tile_of(m, first)
    index = t[m[operation_at(m, tile, first & NUMBER) + O_ITEM] + I_WHAT] >> WHAT_INDEX
    what = index << WHAT_INDEX | m[meeting + M_BOUND] << WHAT_BOUND | (1 if is_by_tile else 0)
    record = add_record(m, start, cause, first >> NUMBER_BITS, what)
    note_cycles(m, rates, size)
    fetch_posts(m, meeting)
    fetch_links(m, k, meeting)
    leave_senders(m, f, rates, meeting, size, start, record)
    edges = m[meeting + M_EDGES]
    for edge in range(edges, edges + G_SIZE * m[meeting + M_EDGE_COUNT], G_SIZE):
        go_over(m, f, k, rates, edge, size, start, record)
    fetch_waiters(m, t, meeting)
    latest, decides = arrive(m, k, meeting)
    note_end(m, latest, decides)
    end_posts(m, t, meeting, start)
    gather_next(m, t, meeting)
    if is_complete(m, meeting):
        meet(m, meeting)
    count_message(m, meeting, size, k[m[tile + TILE_NODES] + index])
    m[H_ARG], m[H_ARG_AT], m[H_ARG_RECORD] = meeting, latest, decides
    return True
