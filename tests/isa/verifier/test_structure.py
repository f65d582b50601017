"""Programs that do not fit together: each thing wrong has its words (E0401, E0408, E0410)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from isa import instructions as t
from isa.instruction import DType
from isa.operands import Addr, ArrayRef, PortRef, Reg, Space
from isa.program import (
    HOST,
    ArrayData,
    ArrayKind,
    ArraySpec,
    BarrierGroup,
    Channel,
    Constant,
    Direction,
    Endpoint,
    Limits,
    MemoryRegion,
    Port,
    Program,
    Reduce,
    Region,
    Role,
    Slice,
    Stream,
    StreamPart,
    TensorInfo,
    Tile,
)
from isa.verifier import findings

from .assembly import tiny

WEIGHTS = ArrayData(Slice("w", (0, 0)), Slice("s", (0,)))
ROLE = Role(
    "main",
    (t.Send(PortRef(1), Addr(), Reg(0), 1), t.Barrier(PortRef(2)), t.Halt()),
    params=("a",),
    arrays=(ArraySpec("w", ArrayKind.WEIGHT, 16, 8), ArraySpec("kv", ArrayKind.KV, 64, 8)),
    ports=(Port("i", Direction.IN), Port("o", Direction.OUT), Port("b", Direction.BARRIER)),
    constants=(Constant("c", 0, DType.F32, (8,)),),
    regions=(Region("x", 64, 64),),
    sites=("site",),
    lines=(0, -1, -1),
)
GOOD = Program(
    tiny(),
    Limits(64, 8),
    (
        ROLE,
        Role(
            "sink",
            (t.Recv(PortRef(0), Addr(), Reg(0), 1), t.Barrier(PortRef(1)), t.Halt()),
            ports=(Port("i", Direction.IN), Port("b", Direction.BARRIER)),
        ),
        Role("source", (t.Halt(),), ports=(Port("o", Direction.OUT),)),
    ),
    (
        Tile("t0", "main", 0, 0, (1,), (WEIGHTS, None), (Slice("s", (0,)),), ("node",)),
        Tile("t1", "sink", 1, 0),
        Tile("t2", "source", 2, 0),
    ),
    (
        Channel("x", (Endpoint(0, 1),), (Endpoint(1, 0),)),
        Channel("y", (Endpoint(2, 0),), (Endpoint(0, 0),)),
    ),
    (BarrierGroup("b", (Endpoint(0, 2), Endpoint(1, 1))),),
    tensors=(TensorInfo("w", DType.I8, (16, 8)), TensorInfo("s", DType.F32, (8,))),
    memory=(MemoryRegion("m", Space.DRAM, 0, 0, 512, "w"),),
    data={"w": np.zeros((16, 8), np.int8), "s": np.zeros(8, np.float32)},
)

Change = Callable[[Program], Program]


def of_role(**changes: Any) -> Change:
    """The first role changed."""
    return lambda p: replace(p, roles=(replace(p.roles[0], **changes), *p.roles[1:]))


def of_tile(**changes: Any) -> Change:
    """The first tile changed."""
    return lambda p: replace(p, tiles=(replace(p.tiles[0], **changes), *p.tiles[1:]))


def of_channel(**changes: Any) -> Change:
    """The first channel changed."""
    return lambda p: replace(p, channels=(replace(p.channels[0], **changes), *p.channels[1:]))


def of_program(**changes: Any) -> Change:
    """The program changed."""
    return lambda p: replace(p, **changes)


def hosted(**changes: Any) -> Change:
    """The first channel goes to the host, in a stream with these changes."""
    stream = Stream("y", Direction.OUT, DType.F32, 1, (StreamPart(0, 0, 1),))
    roles = (ROLE, Role("sink", (t.Halt(),)), *GOOD.roles[2:])
    channels = (Channel("x", (Endpoint(0, 1),), (Endpoint(HOST, 0),)), GOOD.channels[1])
    barriers = (BarrierGroup("b", (Endpoint(0, 2),)),)
    return of_program(
        channels=channels, roles=roles, barriers=barriers, streams=(replace(stream, **changes),)
    )


def region(**changes: Any) -> Change:
    """The memory region changed."""
    return of_program(memory=(replace(GOOD.memory[0], **changes),))


TWO = (Endpoint(0, 1), Endpoint(2, 0))
CASES: list[tuple[Change, str, str]] = [
    (of_program(limits=Limits(0, 8)), "E0410", "max_context is 0"),
    (of_program(limits=Limits(8, 8, 0)), "E0410", "segments is 0"),
    (of_program(roles=(*GOOD.roles, ROLE)), "E0410", "there are two roles of this name"),
    (of_program(tiles=(*GOOD.tiles, GOOD.tiles[2])), "E0410", "there are two tiles of this name"),
    (of_role(code=(t.Halt(),) * 3000, lines=()), "E0408", "the text takes 48000 bytes"),
    (of_role(ports=ROLE.ports * 30), "E0401", "the role has 90 ports; the target has 64 a tile"),
    (of_role(arrays=(ArraySpec("w", ArrayKind.WEIGHT, 0, 8), ROLE.arrays[1])), "E0410", "w is 0 x 8"),
    (of_role(arrays=(replace(ROLE.arrays[0], copies=0), ROLE.arrays[1])), "E0410", "w is 16 x 8 in 0 copies"),
    (
        of_role(arrays=(replace(ROLE.arrays[0], copies=99), ROLE.arrays[1])),
        "E0408",
        "the arrays take 100 macros",
    ),
    (of_role(arrays=(replace(ROLE.arrays[0], dtype=DType.F16), ROLE.arrays[1])), "E0410", "w holds float16"),
    (of_role(constants=(Constant("c", 2, DType.F32, (8,)),)), "E0410", "does not begin at a word"),
    (of_role(constants=(Constant("c", 0, DType.F32, (0,)),)), "E0410", "c has shape [0]"),
    (of_role(constants=(Constant("c", 0, DType.F32, (9,)),)), "E0410", "s [8] has no block [9] at [0]"),
    (of_role(constants=(Constant("c", 0, DType.I32, (8,)),)), "E0410", "holds float32; int32 is wanted"),
    (of_role(lines=(0,)), "E0410", "1 lines for 3 instructions"),
    (of_role(lines=(1, 0, 0)), "E0410", "a line names a site beyond the 1 there are"),
    (of_tile(x=-1), "E0410", "(-1, 0) is not on the mesh of 6 x 6 tiles"),
    (of_tile(x=1), "E0410", "(1, 0) is taken by tile t0"),
    (of_tile(role="none"), "E0410", "there is no role 'none'"),
    (of_tile(params=()), "E0410", "0 parameters; role main has 1"),
    (of_tile(params=(1 << 63,)), "E0410", "does not fit a register"),
    (of_tile(arrays=(WEIGHTS,)), "E0410", "1 arrays; role main has 2"),
    (of_tile(arrays=(None, None)), "E0410", "a weight array has no contents"),
    (of_tile(arrays=(WEIGHTS, WEIGHTS)), "E0410", "a KV array has contents"),
    (of_tile(constants=()), "E0410", "0 constants; role main has 1"),
    (of_tile(nodes=("a", "b")), "E0410", "2 nodes; role main has 1"),
    (of_tile(constants=(Slice("z", (0,)),)), "E0410", "there is no tensor 'z'"),
    (of_tile(arrays=(ArrayData(Slice("w", (1, 0))), None)), "E0410", "has no block [16, 8] at [1, 0]"),
    (of_tile(arrays=(ArrayData(Slice("w", (0,))), None)), "E0410", "has no block [16, 8] at [0]"),
    (
        of_program(tensors=(TensorInfo("w", DType.I8, (16, 9)), GOOD.tensors[1])),
        "E0410",
        "declared int8 [16, 9]",
    ),
    (of_program(data={"w": np.zeros((16, 8), np.int8)}), "E0410", "declares it but does not carry it"),
    (region(chip=1), "E0410", "there is no chip 1; the system has 1"),
    (region(tensor="z"), "E0410", "there is no tensor 'z'"),
    (region(bytes=0), "E0408", "do not lie within"),
    (of_program(memory=GOOD.memory * 2), "E0408", "region m and region m overlap"),
    (of_channel(sources=()), "E0410", "at least one sender and one receiver"),
    (of_channel(sources=TWO), "E0410", "nothing says how their messages are combined"),
    (of_channel(sources=TWO, reduce=Reduce.SUM), "E0410", "port o of tile t2 is connected twice"),
    (of_channel(sources=(Endpoint(9, 0),)), "E0410", "there is no tile number 9"),
    (of_channel(sources=(Endpoint(0, 7),)), "E0410", "tile t0 has no port 7"),
    (of_channel(sources=(Endpoint(0, 0),)), "E0410", "port i of tile t0 goes in, not out"),
    (of_channel(dests=(Endpoint(HOST, 1),)), "E0410", "the host has port 0 alone"),
    (of_channel(dests=(Endpoint(HOST, 0),)), "E0410", "no stream says what it exchanges"),
    (of_channel(sources=(Endpoint(HOST, 0),), dests=(Endpoint(HOST, 0),)), "E0410", "more than one end"),
    (of_program(channels=GOOD.channels[1:]), "E0410", "port o is not connected"),
    (of_program(barriers=(BarrierGroup("b", ()),)), "E0410", "it has no members"),
    (of_program(barriers=(BarrierGroup("b", (Endpoint(HOST, 0),)),)), "E0410", "takes part in no barrier"),
    (of_program(barriers=(BarrierGroup("b", (Endpoint(0, 2),) * 2),)), "E0410", "a tile is in it twice"),
    (hosted(direction=Direction.BARRIER), "E0410", "a stream goes in or out"),
    (hosted(direction=Direction.IN), "E0410", "the host is not at its end of channel x"),
    (hosted(parts=(StreamPart(7, 0, 1),)), "E0410", "there is no channel number 7"),
    (hosted(parts=(StreamPart(0, 0, 1),) * 2), "E0410", "its parts do not give each column exactly once"),
    (
        hosted(columns=3, parts=(StreamPart(0, 0, 1), StreamPart(0, 1, 2))),
        "E0410",
        "belongs to two stream parts",
    ),
    (hosted(parts=(StreamPart(0, 0, 2),)), "E0410", "columns 0..1 are not among its 1"),
    (hosted(columns=2), "E0410", "its parts do not give each column exactly once"),
    (hosted(dtype=DType.F16), "E0410", "streams carry int32 or float32"),
]


def test_the_base_is_accepted() -> None:
    changed = replace(GOOD, roles=(*GOOD.roles[:2], _sender()), channels=GOOD.channels)
    assert [d.render() for d in findings(changed)] == ["program: channel y: " + _EXPECTED]
    assert findings(GOOD) == ()


_EXPECTED = "error[E0405]: its ends differ in their messages. tile t2: [0]; tile t0: nothing (sizes in words)"


def _sender() -> Role:
    return replace(GOOD.roles[2], lines=(), code=(t.Send(PortRef(0), Addr(), Reg(0), 1), t.Halt()))


@pytest.mark.parametrize(("change", "code", "words"), CASES, ids=[words for _, _, words in CASES])
def test_what_does_not_fit_is_said(change: Change, code: str, words: str) -> None:
    found = [d.render() for d in findings(change(GOOD))]
    assert any(f"error[{code}]" in text and words in text for text in found), found


def test_a_target_without_transposed_activation() -> None:
    macro = tiny().macro.model_copy(update={"transposable": False})
    target = tiny().model_copy(update={"macro": macro})
    code = (t.Mvmt(ArrayRef(1), Addr(), Addr(), Reg(0), Reg(0), 8), t.Halt())
    role = Role("r", code, arrays=ROLE.arrays)
    tile = Tile("t", "r", 0, 0, arrays=(WEIGHTS, None))
    program = Program(target, Limits(64, 8), (role,), (tile,), tensors=GOOD.tensors)
    (finding,) = findings(program)
    assert finding.code == "E0401"
    assert "cannot be activated along their columns" in finding.message


def test_many_findings_are_counted() -> None:
    tiles = tuple(Tile(f"t{n}", "none", n % 6, n // 6) for n in range(36))
    found = findings(replace(GOOD, tiles=tiles, channels=(), barriers=()))
    assert len(found) == 21
    assert found[-1].message == "16 more findings of this kind"


def test_macros_for_keys_and_values_are_counted_apart() -> None:
    tile = tiny().tile.model_copy(update={"kv_macros": tiny().tile.ports})  # 64
    target = tiny().model_copy(update={"tile": tile, "kv": tiny().macro})
    arrays = (ArraySpec("w", ArrayKind.WEIGHT, 64, 16 * 33), ArraySpec("k", ArrayKind.KV, 64 * 65, 16))
    role = Role("r", (t.Halt(),), arrays=arrays)
    program = Program(target, Limits(64, 8), (role,), (Tile("t", "r", 0, 0, arrays=(WEIGHTS, None)),))
    said = [finding.message for finding in findings(program) if finding.code == "E0408"]
    assert said == [
        "keys, values and streams take 65 macros; a tile of tiny has 64 for them",
        "the arrays of weights take 33 macros; a tile of tiny has 32",
    ]
