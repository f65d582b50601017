"""Where things lie in the arenas of the fast engine: int64 words, in rows whose places are numbers of words.

The *state* arena holds what changes in a step; what is made during the step is added at its end. The *plan* arena
holds what stays: decoded instructions, costs, routes. A pointer is the place of a row in its arena; 0 is none.
"""

from __future__ import annotations

from typing import Final

PENDING: Final = (
    -1
)  # an end that is not known, and that nobody waits for; the turn of a queue that asks for none
NO_RECORD: Final = -1
HOST: Final = -1

# Why the kernel returns.
DONE, GROW, MISS, TROUBLE, HOST_PART, HOST_HEARD = range(6)

# The head of the state arena.
(
    H_FREE,  # what comes next is free
    H_MARGIN,  # words that must be free before an instruction is dispatched, or a turn is served
    H_NOW,
    H_END,
    H_LAST,
    H_PUSHED,
    H_HEAP,
    H_HEAP_LEN,
    H_HEAP_CAP,
    H_READY,  # the operation that can start, and came last; they hang together by O_NEXT
    H_FIRST,  # tiles that can go on, by T_NEXT
    H_LATEST,
    H_CURRENT,  # the tile that was interrupted
    H_TILES,
    H_TILE_COUNT,
    H_HALTED,
    H_WAITING,
    H_WAITERS,  # free waiters
    H_STRETCHES,  # free stretches
    H_OPS,  # free operations
    H_FLIGHTS,  # free rows of flights
    H_SCRATCH,
    H_PLACES,  # places of the longest route
    H_MESSAGES,
    H_BYTES,
    H_EVENTS,
    H_NODES,
    H_DEPTH,
    H_WINDOW,
    H_GRANULE,
    H_MOST,  # words of the largest list of a board or ring of operations
    H_ARG,  # what the kernel returns for: an instruction, a host part, a meeting
    H_ARG_AT,
    H_ARG_RECORD,
    H_BUSY_CIM,
    H_BUSY_MACROS,
    H_BUSY_VECTOR,
    H_BUSY_DMA,
    H_BUSY_NETWORK,
    H_RANGES,
) = range(40)
RANGE_WORDS: Final = 5  # low, high, writes, pitch, width
MAX_RANGES: Final = 8
H_SIZE: Final = H_RANGES + RANGE_WORDS * MAX_RANGES

# A tile. Boards and queues of units lie in it.
REGISTER_WORDS: Final = 33
MAX_LOOPS: Final = 16
# A ring: where its rows are, how many there is room for, the number of the oldest since the beginning, and how many.
RING_PLACE, RING_SLOTS, RING_FIRST, RING_COUNT, RING_SIZE = range(5)
LOOP_START, LOOP_END, LOOP_REGISTER, LOOP_COUNT, LOOP_INDEX, LOOP_SIZE = range(6)
# A queue in order.
(
    Q_TILE,
    Q_FIRST,  # the oldest of the latest operations dispatched
    Q_LATEST,
    Q_ENTRIES,
    Q_BUSY,  # the flight that frees the unit
    Q_POSTED,
    Q_POSTED_LATEST,
    Q_POSTED_COUNT,
    Q_MEETING,
    Q_END,
    Q_NEXT,  # the next port of the tile that was used first after this one
    Q_USED,
    Q_SIZE,
) = range(13)
# A queue with a window has these words in the place of those behind Q_TILE.
Q_FREE, Q_HOLDER, Q_TURN = range(1, 4)
Q_PENDING: Final = 4  # a ring of what has not started
Q_STARTED: Final = Q_PENDING + RING_SIZE  # a ring of the latest that have
PENDING_START, PENDING_OPERATION, PENDING_WORDS = range(3)
STARTED_START, STARTED_DONE, STARTED_RECORD, STARTED_WORDS = range(4)
LATE: Final = 1 << 62  # the start of what waits for ends that nobody knows
(
    T_INDEX,
    T_PC,
    T_TIME,
    T_RECORD,
    T_SEQUENCE,
    T_HELD,
    T_BARRIER,
    T_CIM_UNTIL,
    T_NETWORK_UNTIL,
    T_NEXT,
    T_CODE,
    T_GROUP,
    T_ISSUED,
    T_NODES,
    T_PARAMS,
    T_PARAM_COUNT,
    T_SEGMENT,
    T_LOOPS_LEN,
    T_DRAM,
    T_GBUF,
    T_PORTS,
    T_PORT_COUNT,
    T_SENDS,  # ports in the order of their first use
    T_SENDS_LATEST,
    T_RECVS,
    T_RECVS_LATEST,
    T_SHARE,  # what it works on
) = range(27)
T_BUFFER: Final = 27  # boards: of the buffer, and of arrays
T_CELLS: Final = 28
T_ALIVE: Final = 29  # a ring of operations in the order of dispatch; those before its first are over
T_CIM: Final = T_ALIVE + RING_SIZE
T_VECTOR: Final = T_CIM + Q_SIZE
T_DMA: Final = T_VECTOR + Q_SIZE
T_REGISTERS: Final = T_DMA + Q_SIZE
T_LOOPS: Final = T_REGISTERS + REGISTER_WORDS
T_SIZE: Final = T_LOOPS + LOOP_SIZE * MAX_LOOPS

# Boards: lists of reads and of writes, each in one piece: where it is, and how many entries it has and has room for.
LISTS: Final = 64  # a power of two
LIST_PLACE, LIST_COUNTS, LIST_SIZE = range(3)
LIST_ROOM: Final = 32  # bits of LIST_COUNTS: room, count
BOARD_SIZE: Final = 2 * LISTS * LIST_SIZE
LINE: Final = 8  # words of a cache line: rows that are used all the time begin at one
N_LOW, N_HIGH, N_FLIGHT, N_WHEN, N_SIZE = range(5)
WHEN_SEQUENCE: Final = 32  # bits of N_WHEN: the operation's number in its tile, pitch, width
WHEN_PITCH: Final = 16
MOST_GRANULES: Final = (1 << 16) - 1  # of a pitch or a width

# A flight: its end, and the record that decides it. While the end is not known, in their places: `PENDING`, or what has
# all bits of the place of the operation turned round that waits first; and the latest of the waiters behind it, in a
# circle (0: none).
F_DONE, F_RECORD, F_SIZE = range(3)
# The flights of an operation are a row: its own, that of its macro rows, and that of its port.
F_CELLS: Final = F_SIZE
F_PORT: Final = 2 * F_SIZE
F_REFERENCES: Final = 3 * F_SIZE  # how many rings and queues, and what is still to happen, know the row
F_OPERATION: Final = F_REFERENCES + 1  # what is given back with the row, if it has not been yet
F_ROW: Final = LINE

# An operation.
(
    O_START,
    O_UNKNOWN,
    O_CAUSE,  # twice the record that decides the start, and one more if that was by issuing
    O_WINDOW,  # the queue in whose window it waits; 0: in none
    O_LATER,  # the next one in its queue; in a window, where in the ring it was at first
    O_FLIGHTS,
    O_NEXT,  # of those that are ready, or early at a meeting, or free
    O_IS_READY,  # whether it is one of those that are ready
    O_STARTED,
    O_TILE,
    O_CODE,
    O_COST,
    O_SEQUENCE,
    O_OPERAND,
    O_LATER_POSTED,
    O_QUEUE,
    O_SIZE,
) = range(17)
W_OPERATION, W_NEXT, W_SIZE = range(3)

# A record of why something started when it did.
R_START, R_PREDECESSOR, R_WHAT, R_SIZE = range(4)
WHAT_TILE: Final = 32  # bits of R_WHAT: tile + 1, instruction, reason, whether by issuing
WHAT_INDEX: Final = 8
WHAT_BOUND: Final = 1

# An entry of the agenda.
A_TIME, A_ORDER, A_PUSHED, A_KIND, A_WHAT, A_SIZE = range(6)
TRANSMIT, TRANSFER, TURN, HOST_TURN = range(4)

# Meetings (channels and barriers) and their ends.
(
    M_NUMBER,
    M_SOURCES,
    M_ENDS,
    M_END_COUNT,
    M_NEEDED,
    M_IS_BARRIER,
    M_HAS_HOST,
    M_TELLS_HOST,  # a part of the model on the host waits for its messages
    M_HOST_SIZES,
    M_HOST_COUNT,
    M_HOST_AT,
    M_HOST_RECORD,
    M_SERVED,
    M_POSTS,
    M_GATHERING,
    M_LAST,
    M_HOST_SIZE,
    M_HAS_ARRIVED,
    M_BOUND,
    M_EDGES,
    M_EDGE_COUNT,
    M_DELAYS,
    M_PLACE_COUNT,
    M_HOPS,
    M_CHIP_HOPS,
    M_HOST_HOPS,
    M_SIZE,
) = range(27)
# Of an end: who has come to the next message, and to those behind it, by O_NEXT.
E_POST, E_EARLY, E_EARLY_LATEST, E_PLACE, E_LINK, E_ARRIVED, E_RECORD, E_SIZE = range(8)
G_BEFORE, G_AFTER, G_LINK, G_SIZE = range(4)  # an edge of a route
L_KIND, L_LATENCY, L_BUSY = range(3)
LANE_LEN, LANE_FIRST, LANE_LATEST, LANE_SIZE = range(4)  # a lane of a link: its stretches
L_ALL, L_SHORT, L_SIZE = range(3, 3 + 2 * LANE_SIZE + 1, LANE_SIZE)
S_START, S_END, S_RECORD, S_SPARE, S_BEFORE, S_AFTER, S_SIZE = range(7)

# A memory's port: its channels follow, first when they are free, then what holds them.
P_LATENCY, P_BUSY, P_RATE, P_CHANNELS, P_SIZE = range(5)

# The segments that a tile works on: where they lie, how many they are, and how many of them are of sources.
Y_SEGMENTS, Y_COUNT, Y_SOURCES, Y_SIZE = range(4)

# A segment.
(
    G_TOKENS,
    G_POSITION,
    G_OUTPUTS,
    G_SEQUENCE,
    G_IS_SOURCE,
    G_SOURCE,
    G_END,
    G_PAGES,
    G_PAGE_COUNT,
    G_WORDS,
) = range(10)

# What `rates` holds: bytes a cycle.
RATE_NETWORK, RATE_CHIP_LINK, RATE_HOST_LINK, RATE_BUFFER, RATE_DRAM, RATE_GBUF, RATE_COUNT = range(7)

# A decoded instruction, in the plan arena.
(
    C_KIND,
    C_RD,
    C_A,
    C_B,
    C_CONSTANT,
    C_TARGET,
    C_INDEX,
    C_UNIT,
    C_BOUND,
    C_LENGTHS,
    C_ACCESSES,
    C_MEMORY,  # 0: none, 1: DRAM, 2: global buffer
    C_BASE,  # of a place outside, or of a port's number
    C_OFFSET,
    C_IS_RECEIVE,
    C_HAS_PORT,  # whether the unit is free before the operation is over, and its queue is in order
    C_IS_WINDOWED,
    C_NUMBER,
) = range(18)
MAX_LENGTHS: Final = 8
MAX_ACCESSES: Final = 6
ACCESS_BASE, ACCESS_OFFSET, ACCESS_STEP, ACCESS_WRITES, ACCESS_SIZE = range(5)
C_LENGTH: Final = 18
C_ACCESS: Final = C_LENGTH + MAX_LENGTHS
C_SIZE: Final = C_ACCESS + ACCESS_SIZE * MAX_ACCESSES

# Kinds of instructions.
(
    HALT,
    LI,
    LDP,
    SYS,
    SEG,
    SSEG,
    PAGE,
    JUMP,
    LOOP,
    ADD,
    SUB,
    MUL,
    DIV,
    MOD,
    MIN,
    MAX,
    SHL,
    SHR,
    AND,
    OR,
    XOR,
    BEQ,
    BNE,
    BLT,
    BGE,
    CIM,
    VECTOR,
    COPY,
    MEMORY,
    MESSAGE,
    BARRIER,
) = range(31)
FIRST_UNIT: Final = CIM  # kinds from here on are not the sequencer's

# The head of the plan arena: where the table of costs is, and how many slots it has, less one.
X_TABLE: Final = 1
X_MASK: Final = 2
X_SIZE: Final = 3

# A cost, in the plan arena: what is needed most lies in one cache line.
K_CODE, K_NUMBER, K_NOOP, K_BUSY, K_DONE, K_PORT = range(6)
K_KEY: Final = 6  # the lengths
K_USES: Final = K_KEY + MAX_LENGTHS  # ranges of macro rows and scales, the first of macro rows if K_MACROS
K_MACROS: Final = K_USES + 1
K_SPAN: Final = K_MACROS + 1
MAX_USES: Final = 3
USE_LOW, USE_HIGH, USE_WRITES, USE_SIZE = range(4)
SPAN_BYTES, SPAN_PITCH, SPAN_ROW, SPAN_SIZE = range(4)
K_USE: Final = K_SPAN + SPAN_SIZE * MAX_ACCESSES
K_SIZE, K_ROWS, K_PITCH, K_WORDS = range(K_USE + USE_SIZE * MAX_USES, K_USE + USE_SIZE * MAX_USES + 4)
USE_STRIDE: Final = (1 << 32) + 64  # between ranges of different arrays, and kinds of scales: whole blocks
