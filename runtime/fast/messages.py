"""Messages on their way (`runtime.timing.network.Network.transmit`, `runtime.timing.messages`)."""

from __future__ import annotations

from .arena import add_record, note_end, resume_record
from .flights import NUMBER, finish, let_go_on, name_of, operation_at, tile_of
from .jit import Floats, Items, Words, compiled
from .layout import (
    E_ARRIVED,
    E_BYTES,
    E_EARLY,
    E_LINK,
    E_PLACE,
    E_POST,
    E_RECORD,
    E_SIZE,
    E_START,
    E_STARTED,
    E_WAY,
    G_AFTER,
    G_BEFORE,
    G_LINK,
    G_SIZE,
    H_ARG,
    H_ARG_AT,
    H_ARG_RECORD,
    H_BUSY_NETWORK,
    H_BYTES,
    H_EVENTS,
    H_MESSAGES,
    H_NODES,
    H_PLACES,
    H_SCRATCH,
    I_NEXT,
    I_WHAT,
    L_KIND,
    L_LATENCY,
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
    NO_RECORD,
    NUMBER_BITS,
    O_ITEM,
    RATE_BUFFER,
    TILE_NETWORK_UNTIL,
    TILE_NODES,
    WHAT_BOUND,
    WHAT_INDEX,
)
from .links import cycles_of, forget, hold_link, take_link
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
def leave_senders(
    m: Words, f: Floats, rates: Floats, meeting: int, size: int, ready: int, record: int
) -> None:
    """What all senders put on their ways into their routers: head, tail, what decides them, when the last has left."""
    places, at = m[H_PLACES], m[H_SCRATCH]
    for place in range(at, at + m[meeting + M_PLACE_COUNT]):
        m[place] = m[place + places] = m[place + 3 * places] = 0
        m[place + 2 * places] = record
    sent = ready + cycles_of(size, rates[RATE_BUFFER])
    for number in range(m[meeting + M_SOURCES]):
        end = m[meeting + M_ENDS] + E_SIZE * number
        place, link = at + (m[end + E_WAY] & E_PLACE), m[end + E_WAY] >> E_LINK
        m[place] = ready
        m[place + places] = m[place + 3 * places] = sent
        if link and size:
            width = rates[m[link + L_KIND]]
            forget(m, link, ready)
            begin, occupied, blocker = take_link(m, f, link, ready, size, width)
            if blocker != NO_RECORD:
                m[place + 2 * places] = resume_record(m, record, begin, blocker)
            hold_link(m, f, link, begin, occupied, size, m[place + 2 * places], width)
            m[place] = begin
            m[place + places] = m[place + 3 * places] = max(sent, begin + occupied)


@compiled
def go_over(
    m: Words, f: Floats, k: Words, rates: Floats, delays: int, edge: int, size: int, ready: int, record: int
) -> None:
    """A message goes over a link, from one place of its route to another."""
    places, at, link = m[H_PLACES], m[H_SCRATCH], k[edge + G_LINK]
    before, after = at + k[edge + G_BEFORE], at + k[edge + G_AFTER]
    delay, latency = k[delays + k[edge + G_BEFORE]], m[link + L_LATENCY]
    begin, mine = m[before] + delay, m[before + 2 * places]
    last = m[before + places] + delay + latency
    occupied = 0
    if size:
        width = rates[m[link + L_KIND]]
        forget(m, link, ready)
        begin, occupied, blocker = take_link(m, f, link, begin, size, width)
        if blocker != NO_RECORD:
            mine = resume_record(m, record, begin, blocker)
        hold_link(m, f, link, begin, occupied, size, mine, width)
    if begin + latency >= m[after]:
        m[after] = begin + latency
        m[after + 2 * places] = mine
    m[after + places] = max(m[after + places], last, begin + latency + occupied)
    m[before + 3 * places] = max(m[before + 3 * places], begin + occupied)


@compiled
def arrive(m: Words, k: Words, meeting: int) -> tuple[int, int]:
    """When the receivers have a message, not before the one before; the latest of them."""
    places, at, latest, decides = m[H_PLACES], m[H_SCRATCH], -1, NO_RECORD
    first = 0 if m[meeting + M_IS_BARRIER] else m[meeting + M_SOURCES]
    # A barrier's members are its receivers, too; where they are as such is behind the ends.
    shift = m[meeting + M_END_COUNT] if m[meeting + M_IS_BARRIER] else 0
    for number in range(first, m[meeting + M_END_COUNT]):
        end = m[meeting + M_ENDS] + E_SIZE * number
        place = m[end + E_SIZE * shift + E_WAY] & E_PLACE
        arrived = m[at + place + places] + k[m[meeting + M_DELAYS] + place]
        if not m[meeting + M_HAS_ARRIVED] or m[end + E_ARRIVED] <= arrived:
            m[end + E_ARRIVED] = arrived
            m[end + E_RECORD] = m[at + place + 2 * places]
        if m[end + E_ARRIVED] > latest:
            latest, decides = m[end + E_ARRIVED], m[end + E_RECORD]
    m[meeting + M_HAS_ARRIVED] = 1
    return latest, decides


@compiled
def end_posts(m: Words, t: Items, meeting: int, start: int) -> None:
    """All that came to the message are over: senders when it has left, receivers when it is there."""
    places, at = m[H_PLACES], m[H_SCRATCH]
    is_barrier = m[meeting + M_IS_BARRIER]
    for which in range(m[meeting + M_END_COUNT]):
        end = m[meeting + M_ENDS] + E_SIZE * which
        post = m[end + E_POST]
        if post == 0:
            continue
        over, decides = m[end + E_ARRIVED], m[end + E_RECORD]
        if which < m[meeting + M_SOURCES] and not is_barrier:
            place = at + (m[end + E_WAY] & E_PLACE)
            over, decides = m[place + 3 * places], m[place + 2 * places]
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
    leave_senders(m, f, rates, meeting, size, start, record)
    edges = m[meeting + M_EDGES]
    for edge in range(edges, edges + G_SIZE * m[meeting + M_EDGE_COUNT], G_SIZE):
        go_over(m, f, k, rates, m[meeting + M_DELAYS], edge, size, start, record)
    latest, decides = arrive(m, k, meeting)
    note_end(m, latest, decides)
    end_posts(m, t, meeting, start)
    gather_next(m, t, meeting)
    if is_complete(m, meeting):
        meet(m, meeting)
    count_message(m, meeting, size, k[m[tile + TILE_NODES] + index])
    m[H_ARG], m[H_ARG_AT], m[H_ARG_RECORD] = meeting, latest, decides
    return True
