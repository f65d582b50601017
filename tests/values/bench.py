"""Small programs for tests: one tile with its inputs in constants, or a few tiles joined by channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa import instructions as t
from isa.hardware import Hardware, load_target
from isa.instruction import DType, Inst
from isa.operands import Addr, ArrayRef, Mem, Reg, Space
from isa.program import (
    ArrayData,
    ArrayKind,
    ArraySpec,
    BarrierGroup,
    Channel,
    Constant,
    Limits,
    MemoryRegion,
    Port,
    Program,
    Role,
    Segment,
    Slice,
    Stream,
    TensorInfo,
    Tile,
)
from runtime.engine.state import TileState
from runtime.machine import Machine

ONE = (Segment(1, 0, 0),)
LIMITS = Limits(max_context=256, chunk=16, segments=64)


@cache
def tiny() -> Hardware:
    """The teaching target."""
    return load_target("tiny")


def info(data: dict[str, NDArray[Any]]) -> tuple[TensorInfo, ...]:
    """Declarations of tensors."""
    return tuple(TensorInfo(name, DType(value.dtype.name), value.shape) for name, value in data.items())


class Bench:
    """A tile to try instructions on.

    `put` places values in the buffer (as constants), `room` reserves space, `reg` sets a register, `array` adds a
    logical array; `run` executes instructions and gives the tile's state.
    """

    def __init__(self, target: Hardware | None = None) -> None:
        self.target = target or tiny()
        self.setup: list[Inst] = []
        self.constants: list[Constant] = []
        self.arrays: list[ArraySpec] = []
        self.held: list[ArrayData | None] = []
        self.regions: list[MemoryRegion] = []
        self.data: dict[str, NDArray[Any]] = {}
        self.params: tuple[int, ...] = ()
        self._top = 64
        self._registers = 0

    def room(self, nbytes: int) -> Addr:
        """Space that holds nothing yet."""
        at = Addr(offset=self._top)
        self._top += -(-nbytes // 4) * 4 + 64
        return at

    def put(self, values: NDArray[Any]) -> Addr:
        """Values in the buffer."""
        at, name = self.room(values.nbytes), f"c{len(self.constants)}"
        self.constants.append(Constant(name, at.offset, DType(values.dtype.name), values.shape))
        self.data[name] = values
        return at

    def reg(self, value: int) -> Reg:
        """A register with this value."""
        self._registers += 1
        self.setup.append(t.Li(Reg(self._registers), value))
        return Reg(self._registers)

    def array(
        self, values: NDArray[Any], scales: NDArray[np.float32] | None = None, block: int = 0
    ) -> ArrayRef:
        """A weight array; `block` rows share the scales of a row of `scales`, if they have two axes."""
        name = f"w{len(self.arrays)}"
        dtype = DType(values.dtype.name)
        self.arrays.append(ArraySpec(name, ArrayKind.WEIGHT, *values.shape, dtype=dtype, block=block))
        self.data[name] = values
        if scales is not None:
            self.data[name + "s"] = scales
        held = ArrayData(
            Slice(name, (0, 0)), None if scales is None else Slice(name + "s", (0,) * scales.ndim)
        )
        self.held.append(held)
        return ArrayRef(len(self.arrays) - 1)

    def kv(self, rows: int, cols: int, dtype: DType = DType.I8) -> ArrayRef:
        """A KV array."""
        self.arrays.append(ArraySpec(f"kv{len(self.arrays)}", ArrayKind.KV, rows, cols, dtype))
        self.held.append(None)
        return ArrayRef(len(self.arrays) - 1)

    def dram(self, values: NDArray[Any], offset: int, space: Space = Space.DRAM) -> Mem:
        """A tensor in memory."""
        name = f"m{len(self.regions)}"
        self.regions.append(MemoryRegion(name, space, 0, offset, values.nbytes, name))
        self.data[name] = values
        return Mem(space, offset=offset)

    def reserve(self, nbytes: int, offset: int) -> Mem:
        """DRAM without contents."""
        self.regions.append(MemoryRegion(f"r{len(self.regions)}", Space.DRAM, 0, offset, nbytes))
        return Mem(Space.DRAM, offset=offset)

    def program(self, *code: Inst, limits: Limits = LIMITS) -> Program:
        """The program: registers set, then `code`, then halt."""
        role = Role(
            "bench",
            (*self.setup, *code, t.Halt()),
            tuple(f"p{i}" for i in range(len(self.params))),
            tuple(self.arrays),
            constants=tuple(self.constants),
        )
        slices = tuple(Slice(c.name, (0,) * len(c.shape)) for c in self.constants)
        tile = Tile("tile", "bench", 0, 0, self.params, tuple(self.held), slices)
        return Program(
            self.target,
            limits,
            (role,),
            (tile,),
            tensors=info(self.data),
            memory=tuple(self.regions),
            data=self.data,
        )

    def run(self, *code: Inst, segments: Sequence[Segment] = ONE) -> TileState:
        """Run the program for one step."""
        machine = Machine(self.program(*code))
        machine.step(segments, {})
        return machine.tiles[0]

    def jump_over(self, count: int) -> int:
        """The index of the instruction `count` after the set-up."""
        return len(self.setup) + count


def mesh(
    roles: Sequence[tuple[str, Sequence[Inst], Sequence[Port]]],
    *,
    channels: Sequence[Channel] = (),
    barriers: Sequence[BarrierGroup] = (),
    streams: Sequence[Stream] = (),
    limits: Limits = LIMITS,
) -> Program:
    """Tiles in a row, one a role (name, code without halt, ports)."""
    texts = tuple(Role(name, (*code, t.Halt()), ports=tuple(ports)) for name, code, ports in roles)
    tiles = tuple(Tile(role.name, role.name, i % 6, i // 6) for i, role in enumerate(texts))
    return Program(
        tiny(),
        limits,
        texts,
        tiles,
        channels=tuple(channels),
        barriers=tuple(barriers),
        streams=tuple(streams),
        data={},
    )


def shuffled(seed: int) -> Callable[[int], int]:
    """A choice of the next tile at random."""
    rng = np.random.default_rng(seed)
    return lambda ready: int(rng.integers(ready))


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal to the bit, shapes and types too."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
