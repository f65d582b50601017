"""Hand-written cross-attention, as assembly: a pass over source segments appends K and V, then tokens attend to them.

One head on one tile, with int8 arrays or in ideal arithmetic, or two behind a tile that passes rows on. Blocks of 8
source rows are merged by online softmax.
"""

from __future__ import annotations

from functools import cache

from isa.assembler import assemble
from isa.program import Program

WIDTH = 16  # features of the head
CONTEXT, CHUNK, SOURCE, SEQUENCES = 32, 8, 24, 2

_LIMITS = """
.target tiny
.limits context=32 chunk=8 segments=16 sequences=2 source=24
.origin tool=hand

"""

_HEAD = """
.role cross
  .array a0 keys kv {dtype}[48,16]
  .array a1 values kv {dtype}[48,16]
  .port p0 kv in
  .port p1 q in
  .port p2 o out
  .site append attend

  sys    r1, sources
  loop   r2, r1, written                 ; the source, once
    sseg   r2
    sys    r3, tokens
    sys    r4, position
    sys    r5, sequence
    mul    r5, r5, 24
    add    r4, r4, r5
    recv   p0, [0], r3, 32               ; a row of K, a row of V
    copy   [1024], [0], r3, 16, 0, 32
    copy   [1536], [64], r3, 16, 0, 32
{append}
  written:
  sys    r1, segments
  loop   r2, r1, done
    seg    r2
    sys    r3, tokens
    sys    r5, sequence
    mul    r5, r5, 24
    sys    r6, source
    recv   p1, [4096], r3, 16
    vfill  [4608], r3, 16, 0.0           ; o
    vfill  [5120], r3, 2, -inf           ; m and l
{query}
    add    r7, r6, 7
    div    r7, r7, 8
    loop   r8, r7, attended
      mul    r9, r8, 8
      sub    r10, r6, r9                 ; rows of this block that there are
      min    r11, r10, 8
      add    r9, r9, r5
{scores}
      vmuli  [5632], [5632], r3, r11, 0.25
      smx    [5632], [5632], [5248], r3, r11, r11, r0, 1
{values}
      smxm   [5120], [4608], [5248], [6144], r3, 16
    attended:
    smxd   [4608], [4608], [5120], r3, 16
    sys    r4, outputs
    send   p2, [4608], r4, 16
  done:
  halt
.end
"""

_ALONE = """
.tile head cross at 0,0
  .nodes append=/k_proj attend=/attention

.channel kv from host to head.p0
.channel q from host to head.p1
.channel o from head.p2 to host
.stream kv in f32 columns 32 source via kv[0:32]
.stream q in f32 columns 16 via q[0:16]
.stream o out f32 columns 16 via o[0:16]
.cache 0 cross
  .heads head.a0:a1
"""

_HUB = """
.role hub
  .port p0 kv in
  .port p1 q in
  .port p2 kv0 out
  .port p3 kv1 out
  .port p4 q0 out
  .port p5 q1 out

  sys    r1, sources
  loop   r2, r1, passed                  ; a pass over the source, which heads follow
    sseg   r2
    sys    r3, tokens
    recv   p0, [0], r3, 64
    send   p2, [0], r3, 32, 64
    send   p3, [128], r3, 32, 64
  passed:
  sys    r1, segments
  loop   r2, r1, done
    seg    r2
    sys    r3, tokens
    recv   p1, [2048], r3, 32
    send   p4, [2048], r3, 16, 32
    send   p5, [2112], r3, 16, 32
  done:
  halt
.end

.tile hub hub at 0,0
.tile head0 cross at 1,0
  .nodes append=/k_proj attend=/attention
.tile head1 cross at 0,1
  .nodes append=/k_proj attend=/attention

.channel kv from host to hub.p0
.channel q from host to hub.p1
.channel kv0 from hub.p2 to head0.p0
.channel kv1 from hub.p3 to head1.p0
.channel q0 from hub.p4 to head0.p1
.channel q1 from hub.p5 to head1.p1
.channel o0 from head0.p2 to host
.channel o1 from head1.p2 to host
.stream kv in f32 columns 64 source via kv[0:64]
.stream q in f32 columns 32 via q[0:32]
.stream o out f32 columns 32 via o0[0:16] o1[16:32]
.cache 0 cross
  .heads head0.a0:a1 head1.a0:a1
"""

_TOLD = """
.channel kept from head.p3 to host
.stream kept out f32 columns 32 source via kept[0:32]
"""

_INT8 = {
    "dtype": "i8",
    "append": """
    quant  [2048], [2560], [1024], r3, 16  @append
    wrow   a0, [2048], [2560], r3, r4      @append
    quant  [2048], [2560], [1536], r3, 16  @append
    wrow   a1, [2048], [2560], r3, r4      @append""",
    "query": "    quant  [2048], [2560], [4096], r3, 16",
    "scores": """
      mvmt   a0, [6144], [2048], r3, r9, r11      @attend
      deqr   a0, [5632], [6144], [2560], r3, r9, r11""",
    "values": """
      quantw a1, [7168], [2624], [5632], r3, r9, r11
      mvm    a1, [6144], [7168], r3, r9, r11      @attend
      deq    [6144], [6144], [2624], r3, 16""",
}

_IDEAL = {
    "dtype": "f32",
    "append": """
    wrowf  a0, [1024], r3, r4              @append
    wrowf  a1, [1536], r3, r4              @append""",
    "query": "",
    "scores": "      mvmtf  a0, [5632], [4096], r3, r9, r11      @attend",
    "values": "      mvmf   a1, [6144], [5632], r3, r9, r11      @attend",
}


@cache
def crossing(ideal: bool = False) -> Program:
    """One head: source rows of K and V on stream `kv`, rows of Q on stream `q`, attended rows on stream `o`."""
    head = _HEAD.format(**(_IDEAL if ideal else _INT8))
    return assemble(_LIMITS + head + _ALONE, "crossing.cimasm")


@cache
def crossing_that_tells(change: tuple[str, str] = ("", "")) -> Program:
    """One head as in `crossing` that also sends the source's rows of K and V, twice as large, to stream `kept`.

    With a change, its text is another.
    """
    twice = "    vadd   [2048], [0], [0], r3, 32\n    send   p3, [2048], r3, 32\n  written:"
    ports = "  .port p2 o out\n  .port p3 kept out"
    head = _HEAD.format(**_IDEAL).replace("  written:", twice, 1).replace("  .port p2 o out", ports)
    text = _LIMITS + head.replace(*change) + _ALONE.replace(".cache", _TOLD + ".cache")
    return assemble(text, "crossing_that_tells.cimasm")


@cache
def crossing_of_two() -> Program:
    """Two heads behind a hub tile, side by side in the columns of the same streams (K, V, K, V)."""
    return assemble(_LIMITS + _HEAD.format(**_INT8) + _HUB, "crossing_of_two.cimasm")
