"""Where things lie in the arenas of the fast engine, in rows whose places are numbers of words.

The *plan* arena (int64) holds what stays: decoded instructions, costs, routes. The *tracer*'s arena (int64) is for
running the text of a role; what that comes to, operations and what each waits for, is a *trace* (int32). The *state*
arena (int64) holds what changes while tiles go through their traces; what is made then is added at its end. A pointer
is the place of a row in its arena; 0 is none.
"""

from __future__ import annotations

from typing import Final

PENDING: Final = -1  # an end that is not known; the turn of a queue that asks for none
NO_RECORD: Final = -1
HOST: Final = -1
LINE: Final = 8  # words of a cache line: rows that are used all the time begin at one

# Why the kernels return.
DONE, GROW, MISS, TROUBLE, HOST_PART, HOST_HEARD, FAR = range(7)

# The head of the state arena, and of the tracer's.
(
    H_FREE,  # what comes next is free
    H_LIMIT,  # words of the arena
    H_STOP,  # what comes next must not be behind this when something small begins: it needs room
    H_MARGIN,  # words that must be free before an instruction is dispatched, or a turn is served
    H_NOW,
    H_END,
    H_LAST,
    H_PUSHED,
    H_HEAP,
    H_HEAP_LEN,
    H_HEAP_CAP,
    H_READY,  # the operation that can start, and came last; they hang together by O_READY
    H_FIRST,  # tiles that can go on, by TILE_NEXT
    H_LATEST,
    H_CURRENT,  # the tile that was interrupted
    H_TILES,
    H_TILE_COUNT,
    H_HALTED,
    H_WAITING,
    H_STRETCHES,  # free stretches
    H_CHUNKS,  # free chunks of operations
    H_SCRATCH,
    H_MESSAGES,
    H_BYTES,
    H_EVENTS,
    H_NODES,
    H_DEPTH,
    H_WINDOW,
    H_GRANULE,
    H_MOST,  # words of the largest list of a board, or ring of operations
    H_REACH,  # how many operations may be under way in a tile at once
    H_ARG,  # what the kernel returns for: an instruction, a host part, a meeting
    H_ARG_AT,
    H_ARG_RECORD,
    H_BUSY_CIM,
    H_BUSY_MACROS,
    H_BUSY_VECTOR,
    H_BUSY_DMA,
    H_BUSY_NETWORK,
    H_CYCLES,  # for which a message takes links of each kind
) = range(40)
LINK_KINDS: Final = 3
H_RANGES: Final = H_CYCLES + LINK_KINDS
RANGE_WORDS: Final = 5  # low, high, writes, pitch, width
MAX_RANGES: Final = 8
H_SIZE: Final = H_RANGES + RANGE_WORDS * MAX_RANGES

# A ring: where its rows are, how many there is room for, the number of the oldest since the beginning, and how many.
RING_PLACE, RING_SLOTS, RING_FIRST, RING_COUNT, RING_SIZE = range(5)

# Text that is run.
REGISTER_WORDS: Final = 33
MAX_LOOPS: Final = 16
LOOP_START, LOOP_END, LOOP_REGISTER, LOOP_COUNT, LOOP_INDEX, LOOP_SIZE = range(6)
T_PC, T_CODE, T_PARAMS, T_PARAM_COUNT, T_SEGMENT, T_SHARE, T_LOOPS_LEN = range(7)
T_REGISTERS: Final = 7
T_LOOPS: Final = T_REGISTERS + REGISTER_WORDS
T_SIZE: Final = T_LOOPS + LOOP_SIZE * MAX_LOOPS

# The tracer, behind the text that it runs; queues lie in it.
(
    B_BUFFER,  # boards: of the buffer, and of arrays
    B_CELLS,
    B_SEQUENCE,  # operations so far
    B_GAP,  # cycles since the last one was dispatched
    B_FIRST,  # where the trace begins
    B_OUT,  # and where it goes on
    B_LIMIT,  # int32 words that there is room for
    B_DEPENDENCES,  # of the operation at hand
    B_DEPENDENCE_COUNT,
    B_FOUND,  # of one access, with their keys
    B_FOUND_COUNT,
    B_EXECUTED,  # how often each cost was met
    B_ISSUED,  # how often each instruction was
    B_PORTS,
    B_PORT_COUNT,
    B_PLACES,  # where the rows of the latest operations are, by their numbers
    B_STRIPES,  # after so many bytes the channels of DRAM, and of a global buffer, take turns as before
) = range(T_SIZE, T_SIZE + 17)
# A queue: how many operations it has had, the flight that frees its unit, where the row of the latest lies, and the
# numbers of the latest, as many as there is room for in a queue.
BQ_COUNT, BQ_FLIGHT, BQ_LATEST, BQ_NUMBERS, BQ_SIZE = range(5)
B_CIM: Final = T_SIZE + 18
B_VECTOR: Final = B_CIM + BQ_SIZE
B_DMA: Final = B_VECTOR + BQ_SIZE
B_SIZE: Final = B_DMA + BQ_SIZE
MOST_DEPENDENCES: Final = 1 << 13

# An operation of a trace (int32). Behind it are the flights that it waits for, in the order in which the reference
# looks at them, then those that wait for its own: how far away they are in the order of dispatch, times `FLIGHTS`,
# and which flight.
(
    I_HEAD,  # kind, whether it receives, is windowed, has a port; cycles that the sequencer takes before it
    I_COUNTS,  # how many it waits for, and how many wait
    I_DURATIONS,
    I_WHAT,  # bits of R_WHAT: the instruction, and the reason
    I_OPERAND,  # an address outside, modulo a stripe of its memory; a port
    I_BYTES,  # of a message
    I_ROOM,  # how far back in the order of dispatch is what must have started for the queue to have room; 0: nothing
    I_NEXT,  # how far on the next operation of its port is; 0: there is none
    I_SIZE,
) = range(9)
I_KIND: Final = 31  # bits of I_HEAD
I_RECEIVES: Final = 32
I_WINDOWED: Final = 64
I_HAS_PORT: Final = 128
I_GAP: Final = 8
MOST_GAP: Final = (1 << 23) - 1
I_WAITERS: Final = 15  # bits of I_COUNTS
I_MOST: Final = (1 << 15) - 1
FLIGHT_DONE, FLIGHT_CELLS, FLIGHT_PORT = range(3)
FLIGHTS: Final = 4
FLIGHT_BITS: Final = 2
FLIGHT: Final = FLIGHTS - 1

# A tile. Queues with windows lie in it.
TILE_TIME, TILE_RECORD = range(2)
TILE_ITEM: Final = 2  # what it dispatches next
TILE_SEQUENCE: Final = 3  # operations so far
TILE_ALIVE: Final = 4  # a ring of places of chunks of operations; but its first and count are of operations:
# those before the first are over
(
    TILE_NETWORK_UNTIL,
    TILE_BARRIER,
    TILE_HELD,  # the queue that has to have room: `HELD_BY_...`, or that and a port's number
    TILE_NEXT,
    TILE_PORTS,
    TILE_PORT_COUNT,
    TILE_INDEX,
    TILE_CIM_UNTIL,
    TILE_NODES,
    TILE_DRAM,
    TILE_GBUF,
) = range(TILE_ALIVE + RING_SIZE, TILE_ALIVE + RING_SIZE + 11)
HELD_BY_CIM, HELD_BY_VECTOR, HELD_BY_DMA, HELD_BY_PORT = range(1, 5)
TILE_CIM: Final = TILE_GBUF + 1
# A queue with a window: when its unit is free, the record that decides that, the turn that it asked for, what has not
# started, and the numbers of the latest that have, in the order of their starts.
Q_FREE, Q_HOLDER, Q_TURN, Q_KNOWN = range(4)  # of how many that have not started it is known when they could
Q_PENDING: Final = 4
Q_STARTED: Final = Q_PENDING + RING_SIZE
Q_SIZE: Final = Q_STARTED + RING_SIZE
PENDING_START, PENDING_NUMBER, PENDING_WORDS = range(3)
LATE: Final = 1 << 62  # the start of what waits for ends that nobody knows
TILE_VECTOR: Final = TILE_CIM + Q_SIZE
TILE_SIZE: Final = 6 * LINE

# A port of a tile.
PORT_MEETING, PORT_END, PORT_KIND = range(3)
PORT_SIZE: Final = 4
PORT_NONE, PORT_SENDS, PORT_RECEIVES, PORT_BARRIER = range(4)

# An operation under way: its ends while they are not known are `PENDING`. Before it starts, O_CELLS is `PENDING` less
# the number of flights that it still waits for, and O_CAUSE twice the record that decides its start, and one more if
# that was by issuing; from then on they are the end of its macro rows, and its own record.
O_DONE, O_RECORD, O_PORT, O_PORT_RECORD, O_CELLS, O_START, O_CAUSE, O_ITEM, O_SIZE = range(9)
O_READY: Final = O_PORT_RECORD  # the next of those that are ready
CHUNK_BITS: Final = 4  # operations of a tile lie together, so many numbers at a time
CHUNK: Final = (1 << CHUNK_BITS) - 1
NUMBER_BITS: Final = 32  # of what tells an operation from others: its tile's index, its number

# Boards: lists of reads and of writes, each in one piece: where it is, and how many entries it has and has room for.
LISTS: Final = 64  # a power of two
LIST_PLACE, LIST_COUNTS, LIST_SIZE = range(3)
LIST_ROOM: Final = 32  # bits of LIST_COUNTS: room, count
BOARD_SIZE: Final = 2 * LISTS * LIST_SIZE
N_LOW, N_HIGH, N_FLIGHT, N_WHEN, N_SIZE = range(5)
WHEN_SEQUENCE: Final = 32  # bits of N_WHEN: the operation's number in its tile, pitch, width
WHEN_PITCH: Final = 16
MOST_GRANULES: Final = (1 << 16) - 1  # of a pitch or a width

# A record of why something started when it did.
R_START, R_PREDECESSOR, R_WHAT, R_SIZE = range(4)
WHAT_TILE: Final = 32  # bits of R_WHAT: tile + 1, instruction, reason, whether by issuing
WHAT_INDEX: Final = 8
WHAT_BOUND: Final = 1

# An entry of the agenda.
A_TIME, A_ORDER, A_TIE, A_WHAT, A_SIZE = range(5)
A_KIND: Final = 2  # bits of A_TIE: how many were pushed before, the kind
TRANSMIT, TRANSFER, TURN, HOST_TURN = range(4)

# Meetings (channels and barriers) and their ends.
(
    M_POSTS,  # what is looked at when a tile comes to a message lies in one cache line
    M_NEEDED,
    M_GATHERING,
    M_HAS_HOST,
    M_IS_BARRIER,
    M_ENDS,
    M_END_COUNT,
    M_LAST,
    M_SERVED,
    M_SOURCES,
    M_EDGES,
    M_EDGE_COUNT,
    M_DELAYS,
    M_PLACE_COUNT,
    M_BOUND,
    M_HAS_ARRIVED,
    M_HOPS,
    M_CHIP_HOPS,
    M_HOST_HOPS,
    M_TELLS_HOST,  # a part of the model on the host waits for its messages
    M_HOST_SIZE,
    M_HOST_AT,
    M_HOST_RECORD,
    M_HOST_COUNT,
    M_HOST_SIZES,
    M_NUMBER,
) = range(26)
M_SIZE: Final = 4 * LINE
# Of an end: who has come to the next message, when, by which record and with how many bytes; how many have to those
# behind it; when the message before arrived; the way into its router, and where that is on the route.
E_POST, E_EARLY, E_START, E_STARTED, E_BYTES, E_ARRIVED, E_RECORD, E_WAY, E_SIZE = range(9)
PLACE_BITS: Final = 16
MOST_PLACES: Final = (1 << PLACE_BITS) - 1
KIND_BITS: Final = 2
MOST_KINDS: Final = (1 << KIND_BITS) - 1
E_KIND: Final = PLACE_BITS  # bits of E_WAY: the link, its kind, the place
E_LINK: Final = E_KIND + KIND_BITS
G_LINK, G_WAY, G_SIZE = range(3)  # an edge of a route
LATENCY_BITS: Final = 24  # bits of G_LINK: the link, its latency
MOST_LATENCY: Final = (1 << LATENCY_BITS) - 1
# Bits of G_WAY: cycles before the link, its kind, the place before, the place after.
G_BEFORE: Final = PLACE_BITS
G_KIND: Final = 2 * PLACE_BITS
G_DELAY: Final = G_KIND + KIND_BITS
MOST_DELAY: Final = (1 << 63 - G_DELAY) - 1
# A place of a route: when a message's first and last bytes come there, what decides that, when they have left.
PLACE_HEAD, PLACE_TAIL, PLACE_DECIDES, PLACE_LEFT, PLACE_SIZE = range(5)
# A lane of a link: its first and latest stretches, and one that no other lane has, so that what most messages look at
# lies in one cache line.
LANE_FIRST, LANE_LATEST, LANE_OWN = range(3)
S_START, S_END, S_RECORD, S_SPARE, S_NEAR, S_SIZE = range(6)
S_BEFORE: Final = 32  # bits of S_NEAR: the stretch before, the one after
S_AFTER: Final = (1 << S_BEFORE) - 1
S_UNUSED: Final = -1  # the start of a stretch that lies in a lane and is not one of its stretches
L_ALL, L_BUSY, L_SHORT, L_SIZE = 0, LANE_OWN + S_SIZE, LINE, 2 * LINE

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
    C_BOUND,
    C_LENGTHS,
    C_ACCESSES,
    C_MEMORY,  # 0: none, 1: DRAM, 2: global buffer
    C_BASE,  # of a place outside, or of a port's number
    C_OFFSET,
    C_IS_RECEIVE,
    C_HAS_PORT,  # whether the unit is free before the operation is over, and its queue is in order
    C_IS_WINDOWED,
) = range(16)
MAX_LENGTHS: Final = 8
MAX_ACCESSES: Final = 6
ACCESS_BASE, ACCESS_OFFSET, ACCESS_STEP, ACCESS_WRITES, ACCESS_SIZE = range(5)
C_LENGTH: Final = 16
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

# What an operation takes, in the plan arena: a cache line, the same for all costs that differ in nothing of this.
D_BUSY, D_DONE, D_PORT, D_MACROS, D_BYTES, D_ROWS, D_PITCH, D_MEMORY, D_SIZE = range(9)

# A cost, in the plan arena: of an instruction with its lengths.
K_CODE, K_NUMBER, K_NOOP, K_DURATIONS = range(4)
K_KEY: Final = 4  # the lengths
K_USES: Final = K_KEY + MAX_LENGTHS  # ranges of macro rows and scales, the first of macro rows if D_MACROS
K_SPAN: Final = K_USES + 1
MAX_USES: Final = 3
USE_LOW, USE_HIGH, USE_WRITES, USE_SIZE = range(4)
SPAN_BYTES, SPAN_PITCH, SPAN_ROW, SPAN_SIZE = range(4)
K_USE: Final = K_SPAN + SPAN_SIZE * MAX_ACCESSES
K_WORDS: Final = K_USE + USE_SIZE * MAX_USES
USE_STRIDE: Final = (1 << 32) + 64  # between ranges of different arrays, and kinds of scales: whole blocks
