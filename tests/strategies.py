"""Random instructions and programs, derived from the instruction table: an operand's strategy follows from its kind.

`instructions()` makes any encodable instruction. `programs()` makes well-formed programs: every name resolves,
branches go forward; nothing more, so the verifier would refuse most of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from isa import instructions as _declared  # noqa: F401 (its import fills the table)
from isa.hardware import Hardware, load_target
from isa.instruction import TABLE, DType, Field, Inst
from isa.interface import CacheHead, Interface, KvCache, ModelValue, Use
from isa.operands import (
    ADDRESS_BITS,
    REGISTERS,
    WORD_BYTES,
    ZERO,
    Addr,
    AddrKind,
    ArrayRef,
    EitherKind,
    EnumKind,
    FlagKind,
    FloatKind,
    IndexedKind,
    IntKind,
    Kind,
    LabelKind,
    Mem,
    MemKind,
    PortRef,
    Reg,
    RegKind,
    Space,
)
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
    HostPart,
    Limits,
    MemoryRegion,
    Moment,
    Origin,
    Port,
    Program,
    Reduce,
    Region,
    Replica,
    Role,
    Slice,
    Stream,
    StreamPart,
    TensorInfo,
    Tile,
)
from isa.workload import AttentionWork, Block, Place, Product, Repeat, RowWork, SectionWork, Task, Workload

TINY: Hardware = load_target("tiny")
REGISTER = st.builds(Reg, st.integers(0, REGISTERS - 1))
PLAIN = st.from_regex(r"[a-z][a-z0-9_.]{0,9}", fullmatch=True)
NAME = st.one_of(
    PLAIN,
    st.sampled_from(["/model/layers.0/q_proj/MatMul", "onnx::Add_1", "host", "a0"]),
    st.text(max_size=6),
)


def limits_of(kind: IntKind) -> tuple[int, int]:
    """The lowest and the highest constant of a kind."""
    return (-(1 << kind.bits - 1), (1 << kind.bits - 1) - 1) if kind.signed else (0, (1 << kind.bits) - 1)


def _whole(kind: IntKind) -> st.SearchStrategy[int]:
    return st.integers(*limits_of(kind))


def _address(kind: Kind) -> st.SearchStrategy[Addr]:
    offset = st.integers(0, (1 << ADDRESS_BITS) - 1).map(lambda words: words * WORD_BYTES)
    address = st.builds(Addr, REGISTER, offset, st.booleans())
    return address.map(lambda a: replace(a, step=False) if a.base == ZERO else a)


def _either(kind: EitherKind) -> st.SearchStrategy[Reg | int]:
    return st.one_of(REGISTER, _whole(IntKind(kind.bits - 1, kind.signed)))


def _indexed(kind: IndexedKind) -> st.SearchStrategy[ArrayRef | PortRef]:
    return st.builds(kind.type, st.integers(0, 255), REGISTER)


STRATEGIES: dict[type[Kind], Callable[[Any], st.SearchStrategy[Any]]] = {
    RegKind: lambda kind: REGISTER,
    IntKind: _whole,
    LabelKind: _whole,
    EitherKind: _either,
    AddrKind: _address,
    IndexedKind: _indexed,
    MemKind: lambda kind: st.builds(Mem, st.sampled_from(Space), REGISTER, st.integers(0, (1 << 32) - 1)),
    FloatKind: lambda kind: st.floats(width=32, allow_nan=False),
    FlagKind: lambda kind: st.booleans(),
    EnumKind: lambda kind: st.sampled_from(kind.type),
}


def operands(kind: Kind) -> st.SearchStrategy[Any]:
    """Any value of an operand of this kind."""
    return STRATEGIES[type(kind)](kind)


def of_class(cls: type[Inst], labels: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Inst]:
    """Any instruction of a class, with branches to `labels` if given."""

    def operand(field: Field) -> st.SearchStrategy[Any]:
        return labels if field.is_label and labels is not None else operands(field.kind)

    return st.builds(cls, **{field.name: operand(field) for field in cls.layout})


def instructions(labels: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Inst]:
    """Any instruction of the table."""
    return st.sampled_from([TABLE[opcode] for opcode in sorted(TABLE)]).flatmap(
        lambda cls: of_class(cls, labels)
    )


def _unique(names: st.SearchStrategy[str], low: int, high: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(names, min_size=low, max_size=high, unique=True).map(tuple)


def _within(inst: Inst, arrays: int, ports: int) -> Inst | None:
    """The instruction with its array and port numbers within those declared; None if there are none."""
    changes: dict[str, Any] = {}
    for field in inst.layout:
        value = getattr(inst, field.name)
        if isinstance(value, ArrayRef | PortRef):
            count = arrays if isinstance(value, ArrayRef) else ports
            if not count:
                return None
            changes[field.name] = replace(value, index=value.index % count)
    return type(inst)(**{f.name: changes.get(f.name, getattr(inst, f.name)) for f in inst.layout})


@st.composite
def roles(draw: st.DrawFn, name: str = "role") -> Role:
    """A role whose instructions use what it declares."""
    sites = draw(_unique(NAME, 0, 3))
    arrays = tuple(
        ArraySpec(
            draw(NAME),
            draw(st.sampled_from(ArrayKind)),
            draw(st.integers(0, 99)),
            16,
            draw(st.sampled_from(DType)),
            draw(st.integers(0, 9)),
            draw(st.integers(0, 4)),
        )
        for _ in range(draw(st.integers(0, 3)))
    )
    ports = tuple(Port(draw(NAME), draw(st.sampled_from(Direction))) for _ in range(draw(st.integers(1, 3))))
    size = draw(st.integers(0, 8))
    drawn = [draw(instructions(st.integers(index + 1, size))) for index in range(size)]
    code = [
        kept if (kept := _within(inst, len(arrays), len(ports))) is not None else TABLE[0]() for inst in drawn
    ]
    shapes = st.lists(st.integers(0, 9), max_size=2).map(tuple)
    return Role(
        name,
        tuple(code),
        params=draw(_unique(NAME, 0, 2)),
        arrays=arrays,
        ports=ports,
        constants=tuple(Constant(n, 64, DType.F32, draw(shapes)) for n in draw(_unique(NAME, 0, 2))),
        regions=tuple(Region(n, draw(st.integers(0, 999)), 64) for n in draw(_unique(NAME, 0, 3))),
        sites=sites,
        lines=tuple(draw(st.integers(-1, len(sites) - 1)) for _ in code),
    )


@st.composite
def _slices(draw: st.DrawFn, tensors: tuple[TensorInfo, ...]) -> Slice:
    tensor = draw(st.sampled_from(tensors))
    return Slice(tensor.name, tuple(draw(st.integers(0, 999)) for _ in tensor.shape))


@st.composite
def tiles(draw: st.DrawFn, name: str, role: Role, tensors: tuple[TensorInfo, ...]) -> Tile:
    """A tile that fills the role in."""
    data = st.builds(ArrayData, _slices(tensors), st.none() | _slices(tensors))
    return Tile(
        name,
        role.name,
        draw(st.integers(0, 5)),
        draw(st.integers(0, 5)),
        params=tuple(draw(st.integers(-(2**40), 2**40)) for _ in role.params),
        arrays=tuple(draw(st.none() | data) for _ in role.arrays),
        constants=tuple(draw(_slices(tensors)) for _ in role.constants),
        nodes=draw(st.lists(NAME, max_size=len(role.sites)).map(tuple)),
    )


def _ends(filled: list[tuple[Tile, Role]]) -> st.SearchStrategy[tuple[Endpoint, ...]]:
    ends = [
        Endpoint(index, port) for index, (_, role) in enumerate(filled) for port in range(len(role.ports))
    ]
    return st.lists(
        st.sampled_from([Endpoint(HOST, 0), Endpoint(HOST, 2), *ends]), min_size=1, max_size=3
    ).map(tuple)


_NAMES = st.sampled_from([(), ("x",), ("/a/b", "two words", "reads")])


def host_parts(name: str, tensors: tuple[TensorInfo, ...]) -> st.SearchStrategy[HostPart]:
    """A host partition whose model is one of the tensors."""
    models, texts = st.sampled_from([t.name for t in tensors]), st.sampled_from(["", "CAdCBnRvb2w6+/=="])
    moments = st.sampled_from(Moment)
    return st.builds(
        HostPart, st.just(name), moments, _NAMES, _NAMES, models, texts, _NAMES, st.sampled_from(["", "at"])
    )


def _streams(name: str, channels: int) -> st.SearchStrategy[Stream]:
    parts = st.builds(StreamPart, st.integers(0, channels - 1), st.integers(0, 99), st.integers(0, 99))
    ways = st.sampled_from([(Direction.IN, False), (Direction.IN, True), (Direction.OUT, False)])
    return st.builds(
        lambda way, dtype, columns, parts, every: Stream(name, way[0], dtype, columns, parts, way[1], every),
        ways,
        st.sampled_from(DType),
        st.integers(0, 99),
        st.tuples(parts, parts) | st.just(()),
        st.booleans(),
    )


@st.composite
def _caches(draw: st.DrawFn, filled: list[tuple[Tile, Role]]) -> KvCache:
    """A cache whose heads are KV arrays of the tiles."""
    arrays = [
        [number for number, spec in enumerate(role.arrays) if spec.kind is ArrayKind.KV] for _, role in filled
    ]
    tiles = [tile for tile, numbers in enumerate(arrays) if numbers]
    chosen = draw(st.lists(st.sampled_from(tiles), max_size=3)) if tiles else []
    pick = [(tile, st.sampled_from(arrays[tile])) for tile in chosen]
    heads = tuple(CacheHead(tile, draw(kv), draw(kv)) for tile, kv in pick)
    return KvCache(draw(st.integers(0, 99)), heads, draw(st.booleans()), ring=draw(st.sampled_from((0, 64))))


@st.composite
def _values(
    draw: st.DrawFn, streams: tuple[Stream, ...], caches: tuple[KvCache, ...]
) -> tuple[ModelValue, ...]:
    """Inputs or outputs of a model's file."""
    names = st.sampled_from(["", *[s.name for s in streams]])
    value = st.builds(
        ModelValue,
        st.just(""),
        st.sampled_from(Use),
        names,
        st.integers(-1, len(caches) - 1),
        st.booleans(),
        st.integers(0, 9),
    )
    return tuple(replace(draw(value), name=name) for name in draw(_unique(NAME, 0, 2)))


def workloads() -> st.SearchStrategy[Workload]:
    """Any work, of a few parts."""
    size, some = st.integers(0, 99999), lambda parts: st.lists(parts, max_size=2).map(tuple)
    places = st.sampled_from(Place)
    rows = st.builds(RowWork, st.sampled_from(Task), size, size, places)
    products = st.builds(Product, size, size, st.integers(1, 32), places)
    attention = st.builds(AttentionWork, *[size] * 5, *[st.booleans()] * 3)
    section = st.builds(
        SectionWork,
        *[some(products)] * 2,
        some(rows),
        st.none() | attention,
        some(rows),
        st.none() | products,
        *[st.booleans()] * 2,
    )
    block = st.builds(Block, st.booleans(), some(rows), some(rows), some(section), size)
    return st.builds(Workload, some(st.builds(Repeat, size, some(block))), size, st.booleans())


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A program in which every name resolves and branches go forward."""
    shapes = st.lists(st.integers(1, 3), max_size=2).map(tuple)
    types = st.sampled_from(DType)
    tensors = tuple(TensorInfo(n, draw(types), draw(shapes)) for n in draw(_unique(NAME, 1, 3)))
    made = tuple(draw(roles(name)) for name in draw(_unique(NAME, 1, 3)))
    filled: list[tuple[Tile, Role]] = []
    for name in draw(_unique(NAME, 0, 4)):
        role = draw(st.sampled_from(made))
        filled.append((draw(tiles(name, role, tensors)), role))
    ends, reduces = _ends(filled), st.sampled_from(Reduce)
    channels = tuple(Channel(n, draw(ends), draw(ends), draw(reduces)) for n in draw(_unique(NAME, 1, 3)))
    streams = tuple(draw(_streams(n, len(channels))) for n in draw(_unique(NAME, 0, 2)))
    caches = tuple(draw(st.lists(_caches(filled), max_size=2)))
    memory = st.builds(
        MemoryRegion,
        NAME,
        st.sampled_from(Space),
        st.integers(0, 3),
        st.integers(0, 2**32),
        st.integers(0, 2**32),
        st.none() | st.sampled_from([t.name for t in tensors]),
    )
    options = st.lists(st.tuples(NAME, NAME), max_size=2).map(tuple)
    return Program(
        target=TINY,
        limits=draw(st.builds(Limits, *[st.integers(1, 9999)] * 4, st.integers(0, 9999))),
        roles=made,
        tiles=tuple(tile for tile, _ in filled),
        channels=channels,
        barriers=tuple(BarrierGroup(n, draw(ends)) for n in draw(_unique(NAME, 0, 1))),
        tensors=tensors,
        memory=tuple(draw(st.lists(memory, max_size=2))),
        streams=streams,
        hosts=tuple(draw(host_parts(n, tensors)) for n in draw(_unique(NAME, 0, 2))),
        results=draw(_NAMES),
        caches=caches,
        interface=Interface(
            draw(_values(streams, caches)),
            draw(_values(streams, caches)),
            tuple(draw(st.lists(st.integers(0, 99), max_size=2))),
        ),
        workload=draw(workloads()),
        replicas=tuple(draw(st.lists(st.builds(Replica, st.integers(0, 9), st.integers(0, 9)), max_size=2))),
        origin=Origin(draw(NAME), draw(NAME), draw(NAME), draw(options)),
    )
