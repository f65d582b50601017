"""The inputs of a file: what each is for, and what its axes are called here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from compiler.ir.dims import Extent, Shape, axis, bind, parse_extent
from compiler.ir.graph import Input, Role, Value
from compiler.ir.tensor import DType
from compiler.ops.call import ONNX_TYPES
from compiler.recognition.sequences import Step, source_inputs

ENCODER = r"encoder|cross|memory"
"""In the names of inputs that belong to another sequence."""

_Raw = tuple[str, Role, DType, Shape]
"""An input as the file has it."""

_NAMELESS = ("", "None", "?", "*")
"""What stands where an axis has no name: two such axes need not be equal."""

_IDS = (Role.IDS, Role.SOURCE_IDS)

_CONVOLVING = ("Conv", "ConvInteger", "QLinearConv", "Resize")
_PASSING = ("Cast", "Unsqueeze", "Squeeze", "Identity", "Transpose", "Sub", "Div", "Mul", "QuantizeLinear")
"""What may stand between a picture and the convolution that reads it."""

_BY_TOKEN = (Role.IDS, Role.POSITIONS, Role.TOKEN_TYPES)

OURS = ("batch", "sequence", "past", "source")
"""Our names for the free axes."""

_ROLES: tuple[tuple[str, Role], ...] = (
    (r"(past|cache).*(encoder|cross)|(encoder|cross).*(past|cache)", Role.CROSS),
    (r"past|(^|_)(k|key|v|value)_cache", Role.PAST),
    (r"write_ind", Role.START),
    (r"nonpad|seqlen", Role.MASK),
    (r"position", Role.POSITIONS),
    (r"token_type|segment", Role.TOKEN_TYPES),
    (r"mask", Role.MASK),
    (r"(^|_)(input_)?ids?$|tokens?$|^input", Role.IDS),
)
"""What an input is for, by its name; the first pattern that is found counts."""


def read_inputs(
    protos: Sequence[onnx.ValueInfoProto],
    nodes: Sequence[onnx.NodeProto],
    initializers: frozenset[str],
    dims: dict[str, int],
) -> tuple[Input, ...]:
    """The inputs of a graph with these nodes, without those that only name a weight; `dims` fixes free axes."""
    raw = [(p.name, _role(p), _elements(p), dims_of(p)) for p in protos if p.name not in initializers]
    raw = _with_encoded_ids(_with_sources(raw), nodes)
    pictures = _pictures([r for r in raw if r[1] is Role.OTHER], nodes)
    raw = _with_met_rows(raw, nodes, pictures)
    names = _axis_names([r for r in raw if r[0] not in pictures])
    lengths = _Lengths(raw, dims)
    inputs: list[Input] = []
    for name, role, dtype, shape in raw:
        mine = {str(e): axis("batch") for e in shape[:1]} if name in pictures else names
        renamed = tuple(bind(_renamed(_bound(e, dims), mine), dims) for e in shape)
        inputs.append(Input(Value(name, dtype, lengths.named(name, role, shape, renamed)), role))
    return tuple(inputs)


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Gives the free axes of inputs our names, where it follows from the role which axis is which."""

    raw: Sequence[_Raw]
    dims: Mapping[str, int]

    def named(self, name: str, role: Role, shape: Shape, renamed: Shape) -> Shape:
        """`renamed`, with axes named by role; `shape` is what the file has."""
        rank = len(renamed)
        match role:
            case Role.PAST if rank in (4, 5):
                # [batch, heads, tokens, depth], or keys and values of that form in one.
                lead, last = renamed[:-4], (self._free(renamed[-2], "past"), renamed[-1])
                return (*lead, self._free(renamed[-4], "batch"), renamed[-3], *last)
            case Role.CROSS if rank == 4:
                lead = (self._free(renamed[0], "batch"), renamed[1])
                return (*lead, self._free(renamed[2], "source"), renamed[3])
            case Role.SOURCE | Role.SOURCE_IDS if rank > 1:
                return (self._free(renamed[0], "batch"), self._free(renamed[1], "source"), *renamed[2:])
            case Role.MASK if rank == 2:
                # Some exporters give every input axes of its own.
                return (self._free(renamed[0], "batch"), self._masked(name, shape[1], renamed[1]))
            case _:
                return renamed

    def _masked(self, name: str, extent: Extent, renamed: Extent) -> Extent:
        """How many tokens a mask is for."""
        if self._is_of_source(name, extent):
            return self._free(renamed, "source")
        has_past = any(role is Role.PAST for _, role, _, _ in self.raw)
        total = axis("past") + axis("sequence") if has_past else axis("sequence")
        return renamed if isinstance(renamed, int) else bind(total, self.dims)

    def _is_of_source(self, name: str, extent: Extent) -> bool:
        """Whether a mask is one of the source: by its name, or as long as the ids that an encoder reads."""
        if re.search(ENCODER, name):
            return True
        ids = {role: shape[1] for _, role, _, shape in self.raw if role in _IDS and len(shape) == 2}
        if Role.SOURCE_IDS not in ids:
            return False
        by_length = extent == ids[Role.SOURCE_IDS] and extent != ids.get(Role.IDS)
        return by_length or (extent != ids.get(Role.IDS) and "decoder" not in name)

    def _free(self, extent: Extent, name: str) -> Extent:
        return extent if isinstance(extent, int) else bind(axis(name), self.dims)


def _with_encoded_ids(raw: list[_Raw], nodes: Sequence[onnx.NodeProto]) -> list[_Raw]:
    """Of two inputs of token ids, one may be what the encoder in the same file reads."""
    steps = [Step(n.op_type, tuple(n.input), tuple(n.output)) for n in nodes]
    sources = source_inputs(steps, frozenset(r[0] for r in raw if r[1] is Role.IDS and len(r[3]) == 2))
    return [(r[0], Role.SOURCE_IDS, *r[2:]) if r[0] in sources else r for r in raw]


def _pictures(raw: Sequence[_Raw], nodes: Sequence[onnx.NodeProto]) -> frozenset[str]:
    """The inputs that convolutions read: pictures or sound, whose axes count no tokens."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def is_convolved(name: str) -> bool:
        todo, seen = [name], {name}
        while todo:
            readers = users.get(todo.pop(), [])
            if any(n.op_type in _CONVOLVING for n in readers):
                return True
            passed = {o for n in readers if n.op_type in _PASSING for o in n.output} - seen
            todo += passed
            seen |= passed
        return False

    return frozenset(r[0] for r in raw if is_convolved(r[0]))


def _with_sources(raw: Sequence[_Raw]) -> list[_Raw]:
    """Rows of an encoder are a source if the model has tokens, or rows, of its own."""

    def is_source(given: _Raw) -> bool:
        name, role, dtype, shape = given
        return role is Role.OTHER and dtype.is_float and len(shape) == 3 and bool(re.search(ENCODER, name))

    own = [r for r in raw if r[1] is Role.IDS or (r[1] is Role.OTHER and len(r[3]) == 3 and not is_source(r))]
    return [(r[0], Role.SOURCE, *r[2:]) if own and is_source(r) else r for r in raw]


def _with_met_rows(
    raw: Sequence[_Raw], nodes: Sequence[onnx.NodeProto], pictures: frozenset[str]
) -> list[_Raw]:
    """Rows that the model's own rows meet in products only are a source, whatever they are called."""
    if any(r[1] in (Role.SOURCE, Role.SOURCE_IDS, Role.PAST) for r in raw):
        return list(raw)
    rows = {r[0] for r in raw if r[1] is Role.OTHER and r[2].is_float and len(r[3]) == 3} - pictures
    own = {r[0] for r in raw if r[1] is Role.IDS and len(r[3]) == 2}
    steps = [Step(n.op_type, tuple(n.input), tuple(n.output)) for n in nodes]
    sources = source_inputs(steps, frozenset(rows | own)) & rows
    return [(r[0], Role.SOURCE, *r[2:]) if r[0] in sources else r for r in raw]


def _role(proto: onnx.ValueInfoProto) -> Role:
    role = next((r for pattern, r in _ROLES if re.search(pattern, proto.name.lower())), Role.OTHER)
    integer = ONNX_TYPES.get(proto.type.tensor_type.elem_type, DType.OTHER).is_integer
    return Role.OTHER if role in (Role.IDS, Role.POSITIONS, Role.TOKEN_TYPES) and not integer else role


def _elements(proto: onnx.ValueInfoProto) -> DType:
    return ONNX_TYPES.get(proto.type.tensor_type.elem_type, DType.OTHER)


def dims_of(proto: onnx.ValueInfoProto) -> tuple[Extent, ...]:
    """Shape as the file has it; an axis without name or size is named after the input."""
    out: list[Extent] = []
    for at, dim in enumerate(proto.type.tensor_type.shape.dim):
        if dim.HasField("dim_value"):
            out.append(int(dim.dim_value))
        elif dim.dim_param not in _NAMELESS:
            out.append(axis(dim.dim_param))
        else:
            out.append(axis(f"{proto.name}_{at}"))
    return tuple(out)


def _axis_names(raw: Sequence[tuple[str, Role, DType, Shape]]) -> dict[str, Extent]:
    """Our names for the axes of [batch, sequence] inputs, by the file's names."""
    names: dict[str, Extent] = {}
    for _, role, _, shape in raw:
        if role in _BY_TOKEN and len(shape) == 2:
            for extent, ours in zip(shape, ("batch", "sequence"), strict=True):
                if not isinstance(extent, int):
                    names.setdefault(str(extent), axis(ours))
    for _, role, _, shape in raw:
        if role is Role.SOURCE_IDS and not isinstance(shape[1], int):
            names.setdefault(str(shape[1]), axis("source"))
    if not any(role in _BY_TOKEN and len(shape) == 2 for _, role, _, shape in raw):
        names |= _row_axis_names(raw)
    return names


def _row_axis_names(raw: Sequence[tuple[str, Role, DType, Shape]]) -> dict[str, Extent]:
    """The same for a model that starts from rows [batch, sequence, features] or from heads of them."""
    for _, role, dtype, shape in raw:
        if role is Role.OTHER and dtype.is_float and len(shape) in (3, 4):
            pairs = zip((shape[0], shape[-2]), ("batch", "sequence"), strict=True)
            return {str(extent): axis(ours) for extent, ours in pairs if not isinstance(extent, int)}
    return {}


def _bound(extent: Extent, dims: Mapping[str, int]) -> Extent:
    return dims.get(str(extent), extent)


def _renamed(extent: Extent, names: Mapping[str, Extent]) -> Extent:
    if isinstance(extent, int):
        return extent
    if (ours := names.get(str(extent))) is not None:
        return ours
    if not re.search(r"[+*\-]", str(extent)):
        return axis(_sane(str(extent)))
    total: Extent = 0
    for names_of_term, factor in getattr(parse_extent(str(extent)), "terms", ()):
        product: Extent = factor
        for name in names_of_term:
            product = product * names.get(name, axis(_sane(name)))
        total = total + product
    return total


def _sane(name: str) -> str:
    """The name of an axis as a word."""
    return re.sub(r"\W", "_", name)
