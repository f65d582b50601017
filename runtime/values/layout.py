"""Where things lie in the arenas of the fast engine of values: int64 words, in rows whose places are numbers of words.

The *state* arena holds what a step changes: registers, queues of messages, what tiles wait for. The *plan* arena holds
what stays: decoded instructions, where arrays lie, which ends ports have. Registers, loops, segments and scalar
instructions lie as the fast engine of time has them (`runtime/fast/layout.py`), whose scalar code runs here, too. A
pointer is the place of a row; 0 is none.
"""

from __future__ import annotations

from typing import Final

from runtime.fast import layout as shared
from runtime.fast.layout import (
    BEQ,
    C_CONSTANT,
    C_INDEX,
    C_KIND,
    C_RD,
    C_TARGET,
    HALT,
    LOOP_COUNT,
    LOOP_END,
    LOOP_INDEX,
    LOOP_REGISTER,
    LOOP_SIZE,
    LOOP_START,
    MAX_LOOPS,
    T_CODE,
    T_LOOPS,
    T_LOOPS_LEN,
    T_PARAM_COUNT,
    T_PARAMS,
    T_PC,
    T_REGISTERS,
    T_SEGMENT,
    T_SHARE,
)

__all__ = [
    "BEQ",
    "C_CONSTANT",
    "C_INDEX",
    "C_KIND",
    "C_RD",
    "C_TARGET",
    "HALT",
    "LOOP_COUNT",
    "LOOP_END",
    "LOOP_INDEX",
    "LOOP_REGISTER",
    "LOOP_SIZE",
    "LOOP_START",
    "MAX_LOOPS",
    "T_CODE",
    "T_LOOPS",
    "T_LOOPS_LEN",
    "T_PARAMS",
    "T_PARAM_COUNT",
    "T_PC",
    "T_REGISTERS",
    "T_SEGMENT",
    "T_SHARE",
]

# Why the kernel returns, and what an instruction says: it is done, it needs room for a message, memory that it may
# write, room for a receive, or the reference.
DONE, GROW, OWN, MORE, HOST_TURN, TROUBLE = range(6)

# The head of the state arena.
(
    H_READY,  # for each tile, whether it can go on
    H_READY_FIRST,  # no tile before this one can
    H_READY_COUNT,
    H_TILES,
    H_TILE_COUNT,
    H_UNFINISHED,
    H_SCRATCH,  # word of the memory: where the lanes of a reduction lie, then copies of operands
    H_SCRATCH_WORDS,  # of each of the places for copies
    H_USED,  # words of the messages' arena that were ever given out
    H_REGION,  # the region that is to be written
    H_CURRENT,  # the number of the tile that was interrupted
    H_FULL,  # the tile that needs room for receives
    H_SEGMENTS,  # of the step
    H_ANALOG,  # word of the memory: where sums of a pass of an analog macro lie, totals, then slices of inputs
    H_ANALOG_WORDS,  # elements that there is room for
    H_GROWN,  # by how much stepped addresses grow
) = range(16)
MOST_ADDRESSES: Final = 5
H_FREE: Final = H_GROWN + MOST_ADDRESSES  # by size: the first free block for messages
SIZES: Final = 32  # blocks for messages have 2, 4, 8, ... words
H_SIZE: Final = H_FREE + SIZES
LANES: Final = 64

# A tile, behind what it shares with the engine of time.
(
    V_BUFFER,  # word of the memory where its buffer begins
    V_WORDS,
    V_ARRAYS,  # in the plan
    V_ARRAY_COUNT,
    V_PORTS,  # in the plan
    V_PORT_COUNT,
    V_INDEX,  # the instruction that it looked at last
    V_HALTED,
    V_FINISHED,
    V_NUMBER,
    V_BARRIER,  # at which it waits; 0: at none
    V_AWAITED,  # how often that must have opened
    V_REGIONS,  # in the state: of DRAM, then of the global buffer
    V_REGION_COUNT,
    V_GBUF_REGIONS,
    V_GBUF_COUNT,
    V_PENDING_COUNT,
    V_PENDING,  # where its receives that wait lie, in an arena of their own
    V_PENDING_ROOM,
    V_METER,  # where the tile's products are counted; 0: they are not
    V_END,
) = range(shared.T_SIZE, shared.T_SIZE + 21)
V_SIZE: Final = V_END
# A receive whose message has not come. Its span covers `rows` runs of `words` words, `pitch` apart.
P_INDEX, P_PORT, P_INBOX, P_FIRST, P_ROWS, P_WORDS, P_PITCH, P_N, P_COLS, P_SIZE = range(10)
FIRST_PENDING: Final = 16

# Messages: a block of int32 words in an arena of their own.
Q_NEXT, Q_SIZE, Q_LEFT, Q_ROOM, Q_WORDS = range(
    5
)  # the next, words, receivers that have not taken it, log2 of room
# Channels, their sources and their receivers' ends.
(
    X_REDUCE,
    X_SOURCES,
    X_SOURCE_COUNT,
    X_INBOXES,
    X_INBOX_COUNT,
    X_LAST,  # the message that came last and is not forgotten
    X_LEVEL,  # room for as many messages as it has sources
) = range(7)
REDUCE_NONE, REDUCE_SUM, REDUCE_MAX = range(3)
S_FIRST, S_LAST, S_CHANNEL, S_SIZE = range(4)
I_NEXT, I_CHANNEL, I_TILE, I_SIZE = range(4)  # the next message, the channel, the tile's place (0: the host)
B_OPENED, B_ARRIVED, B_MEMBERS, B_COUNT, B_SIZE = range(5)

# A port, in the plan: which way it goes, and its source, its inbox or its barrier.
PORT_WAY, PORT_END, PORT_SIZE = range(3)
WAY_NONE, WAY_IN, WAY_OUT, WAY_BARRIER = range(4)

# An array, in the plan. Cells of int8 lie at a byte, of float32 at a word of the memory; scales at words.
A_IS_FLOAT, A_ROWS, A_COLS, A_CELLS, A_IS_TURNED, A_ROW_SCALES, A_COLUMN_SCALES, A_GROUPS = range(8)
# Of analog macros: how they compute (0: exactly), what tells the cells from others, and at which int16 of the memory
# what they conduct lies, and the codes of which that was worked out.
A_ANALOG, A_KEY, A_CONDUCTED, A_CODES, A_SIZE = range(A_GROUPS + 1, A_GROUPS + 6)

# How analog macros of a kind compute (`AnalogModel`), in the plan.
(
    N_INPUT_SLICES,
    N_INPUT_BITS,
    N_WEIGHT_SLICES,
    N_WEIGHT_BITS,
    N_FRACTION,
    N_LIMIT,
    N_ERROR,
    N_GAIN,
    N_LEVELS,
    N_STEP,
    N_NOISE,
    N_DOWN,
    N_ACROSS,
    N_HAS_DRIFT,
    N_DRIFT,  # float64, and the next one
) = range(15)
N_SIZE: Final = N_DRIFT + 2

# A region of a chip's memory: its bytes, where they are, and whether they may be written.
R_START, R_STOP, R_ADDRESS, R_IS_OWN, R_SIZE = range(5)

# A decoded instruction, in the plan, behind the words of scalar instructions.
U_PLACE, U_PLACE_BASE = range(C_INDEX + 1, C_INDEX + 3)  # of an array or port: its number is the sum
U_SPACE, U_MEMORY_BASE, U_MEMORY_OFFSET = range(U_PLACE_BASE + 1, U_PLACE_BASE + 4)
U_FLOAT: Final = U_MEMORY_OFFSET + 1
MOST_FLOATS: Final = 2
U_NUMBER: Final = U_FLOAT + MOST_FLOATS  # register and constant: the number is their sum
MOST_NUMBERS: Final = 8
U_ADDRESS_COUNT: Final = U_NUMBER + 2 * MOST_NUMBERS
U_IS_STEPPED: Final = U_ADDRESS_COUNT + 1
U_ADDRESS: Final = U_IS_STEPPED + 1
D_BASE, D_OFFSET, D_IS_STEPPED, D_BYTES, D_DIM, D_OTHER_DIM, D_PITCH, D_SIZE = range(8)
U_SIZE: Final = U_ADDRESS + MOST_ADDRESSES * D_SIZE
# What a dimension is: a number's index, or one of these, or a constant above DIM_CONSTANT.
DIM_COLS, DIM_ROWS, DIM_ONE, DIM_CONSTANT = -3, -2, -1, 1000

# Kinds of instructions: those of scalar ones as in the engine of time, the others by their opcodes.
FIRST_UNIT: Final = 64
END_OF_TEXT: Final = 63
