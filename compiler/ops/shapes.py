"""Shape rules: the types of a node's outputs from those of its inputs, with sizes known only at run time."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from compiler.ir.dims import Extent, Shape, UndecidedError, divide, less, size_of
from compiler.ir.tensor import DType
from compiler.ops.call import OutputType, ShapeCall, ShapeRule, UnknownShapeError
from compiler.ops.equations import spelled_out

INT64_LIMIT = 1 << 31
"""Slice bounds beyond this mean "to the end"."""


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of an element-wise result."""
    rank = max(len(a), len(b))
    pad_a, pad_b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    return tuple(_wider(x, y) for x, y in zip(pad_a, pad_b, strict=True))


def _wider(a: Extent, b: Extent) -> Extent:
    if a == 1:
        return b
    # Sizes that differ as text must be equal at run time; a number says more than a name.
    return b if isinstance(b, int) and b != 1 else a


def _elementwise(dtype: DType | None = None, source: int = 0) -> ShapeRule:
    def rule(call: ShapeCall) -> list[OutputType]:
        # Where names of an axis differ, the operand that gives the type knows best.
        order = sorted((i for i in range(len(call.inputs)) if call.inputs[i]), key=lambda i: i != source)
        try:
            shape = reduce(broadcast, [call.shape(i) for i in order])
        except (UnknownShapeError, UndecidedError):
            return [(dtype or call.dtype_of(source), None)]
        return [(dtype or call.dtype_of(source), shape)]

    return rule


def _same(call: ShapeCall) -> list[OutputType]:
    return [(call.dtype_of(0), call.shape(0))]


def _normalised(call: ShapeCall) -> list[OutputType]:
    return [(call.dtype_of(0), call.shape(0)), *[(DType.FLOAT32, None)] * (call.outputs - 1)]


def _cast(call: ShapeCall) -> list[OutputType]:
    return [(call.dtype("to") or DType.OTHER, _known_shape(call))]


def _clip(call: ShapeCall) -> list[OutputType]:
    return _same(call)


def _dropout(call: ShapeCall) -> list[OutputType]:
    return [(call.dtype_of(0), call.shape(0)), (DType.BOOL, call.shape(0))]


def _reshape(call: ShapeCall) -> list[OutputType]:
    shape, target = call.shape(0), call.values(1)
    if target is None:
        raise UnknownShapeError
    zero_is_copy = not call.integer("allowzero", 0)
    out: list[Extent] = [shape[i] if v == 0 and zero_is_copy else v for i, v in enumerate(target)]
    if -1 in out:
        at = out.index(-1)
        out[at] = 1
        out[at] = divide(size_of(shape), size_of(out))
    return [(call.dtype_of(0), tuple(out))]


def _flatten(call: ShapeCall) -> list[OutputType]:
    shape, at = call.shape(0), call.integer("axis", 1)
    at += len(shape) if at < 0 else 0
    return [(call.dtype_of(0), (size_of(shape[:at]), size_of(shape[at:])))]


def _transpose(call: ShapeCall) -> list[OutputType]:
    shape = call.shape(0)
    perm = call.integers("perm") or tuple(reversed(range(len(shape))))
    return [(call.dtype_of(0), tuple(shape[i] for i in perm))]


def _squeeze(call: ShapeCall) -> list[OutputType]:
    shape, axes = call.shape(0), call.numbers(1, "axes")
    if axes is None:
        return [(call.dtype_of(0), tuple(e for e in shape if e != 1))]
    gone = {at % len(shape) for at in axes}
    return [(call.dtype_of(0), tuple(e for i, e in enumerate(shape) if i not in gone))]


def _unsqueeze(call: ShapeCall) -> list[OutputType]:
    shape, axes = list(call.shape(0)), call.numbers(1, "axes")
    if axes is None:
        raise UnknownShapeError
    rank = len(shape) + len(axes)
    for at in sorted(a % rank for a in axes):
        shape.insert(at, 1)
    return [(call.dtype_of(0), tuple(shape))]


def _bound(value: Extent, size: Extent) -> Extent:
    """A slice bound as an offset in 0..size."""
    if isinstance(value, int) and value > INT64_LIMIT:
        return size
    if isinstance(value, int) and value < -INT64_LIMIT:
        return 0
    if less(value, 0):
        value = size + value
    try:
        return size if less(size, value) else value
    except UndecidedError:
        if isinstance(size, int):
            # A table cut to the length of the step: the step is never longer than the table.
            return value
        raise


def _slice(call: ShapeCall) -> list[OutputType]:
    shape = list(call.shape(0))
    starts = call.values(1) or call.integers("starts")
    ends = call.values(2) or call.integers("ends")
    if starts is None or ends is None:
        raise UnknownShapeError
    axes = call.numbers(3, "axes") or tuple(range(len(starts)))
    steps = call.numbers(4, "steps") or (1,) * len(starts)
    for start, end, at, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[at]
        if step == 1:
            length = _bound(end, size) - _bound(start, size)
            shape[at] = 0 if isinstance(length, int) and length < 0 else length
        elif isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
            shape[at] = len(range(size)[start : max(end, -(1 << 62)) : step])
        else:
            raise UnknownShapeError
    return [(call.dtype_of(0), tuple(shape))]


def _split(call: ShapeCall) -> list[OutputType]:
    shape, at = call.shape(0), call.integer("axis", 0)
    sizes = call.numbers(1, "split")
    if sizes is None:
        chunk = divide(shape[at], call.outputs)
        sizes = (chunk,) * call.outputs if isinstance(chunk, int) else None
    if sizes is None:
        raise UnknownShapeError
    at %= len(shape)
    return [(call.dtype_of(0), (*shape[:at], size, *shape[at + 1 :])) for size in sizes]


def _concat(call: ShapeCall) -> list[OutputType]:
    shapes = [call.shape(i) for i in range(len(call.inputs))]
    at = call.integer("axis", 0) % len(shapes[0])
    total: Extent = 0
    for shape in shapes:
        total = total + shape[at]
    # Elsewhere the sizes are equal; a number says more than a name.
    shared = [
        next((e for e in extents if isinstance(e, int)), extents[0]) for extents in zip(*shapes, strict=True)
    ]
    return [(call.dtype_of(0), (*shared[:at], total, *shared[at + 1 :]))]


def _expand(call: ShapeCall) -> list[OutputType]:
    target = call.values(1)
    if target is None:
        raise UnknownShapeError
    return [(call.dtype_of(0), broadcast(call.shape(0), target))]


def _tile(call: ShapeCall) -> list[OutputType]:
    repeats = call.values(1)
    if repeats is None:
        raise UnknownShapeError
    return [(call.dtype_of(0), tuple(e * r for e, r in zip(call.shape(0), repeats, strict=True)))]


def _gather(call: ShapeCall) -> list[OutputType]:
    shape, at = call.shape(0), call.integer("axis", 0) % max(1, len(call.shape(0)))
    return [(call.dtype_of(0), (*shape[:at], *call.shape(1), *shape[at + 1 :]))]


def _gather_nd(call: ShapeCall) -> list[OutputType]:
    shape, index, batch = call.shape(0), call.shape(1), call.integer("batch_dims", 0)
    width = index[-1]
    if not isinstance(width, int):
        raise UnknownShapeError
    return [(call.dtype_of(0), (*index[:-1], *shape[batch + width :]))]


def _gather_elements(call: ShapeCall) -> list[OutputType]:
    return [(call.dtype_of(0), call.shape(1))]


def _shape(call: ShapeCall) -> list[OutputType]:
    rank = len(call.shape(0))
    return [(DType.INT64, (len(range(rank)[call.integer("start", 0) : call.integer("end", rank)]),))]


def _range(call: ShapeCall) -> list[OutputType]:
    bounds = [call.values(i) for i in range(3)]
    if any(b is None for b in bounds):
        raise UnknownShapeError
    start, limit, step = (b[0] for b in bounds if b is not None)
    return [(call.dtype_of(0), (divide(limit - start, step),))]


def _constant_of_shape(call: ShapeCall) -> list[OutputType]:
    value, target = call.tensor("value"), call.values(0)
    if target is None:
        raise UnknownShapeError
    return [(DType.FLOAT32 if value is None else value.dtype, target)]


def _scalar(call: ShapeCall) -> list[OutputType]:
    return [(DType.INT64, ())]


def _matmul(call: ShapeCall) -> list[OutputType]:
    a, b = call.shape(0), call.shape(1)
    if len(a) < 2 or len(b) < 2:
        raise UnknownShapeError
    lead = broadcast(a[:-2], b[:-2])
    return [(call.dtype_of(0), (*lead, a[-2], b[-1]))]


def _gemm(call: ShapeCall) -> list[OutputType]:
    a, b = call.shape(0), call.shape(1)
    rows = a[1] if call.integer("transA", 0) else a[0]
    columns = b[0] if call.integer("transB", 0) else b[1]
    return [(call.dtype_of(0), (rows, columns))]


def _scattered(call: ShapeCall) -> list[OutputType]:
    shape, new = call.shape(0), call.shape(1)
    at = call.integer("axis", -2) % len(shape)
    return [(call.dtype_of(0), (*shape[:at], shape[at] + new[at], *shape[at + 1 :]))]


def _einsum(call: ShapeCall) -> list[OutputType]:
    ranks = [len(call.shape(i)) for i in range(len(call.inputs))]
    terms, _, result = spelled_out(call.text("equation", ""), ranks).partition("->")
    sizes: dict[str, Extent] = {}
    for index, term in enumerate(terms.split(",")):
        sizes.update(zip(term, call.shape(index), strict=True))
    return [(call.dtype_of(0), tuple(sizes[letter] for letter in result))]


def _reduce(call: ShapeCall) -> list[OutputType]:
    shape, axes = call.shape(0), call.numbers(1, "axes")
    if not axes and call.integer("noop_with_empty_axes", 0):
        return _same(call)
    gone = {at % len(shape) for at in axes} if axes else set(range(len(shape)))
    if call.integer("keepdims", 1):
        return [(call.dtype_of(0), tuple(1 if i in gone else e for i, e in enumerate(shape)))]
    return [(call.dtype_of(0), tuple(e for i, e in enumerate(shape) if i not in gone))]


def _argmax(call: ShapeCall) -> list[OutputType]:
    shape = call.shape(0)
    at = call.integer("axis", 0) % len(shape)
    kept: Shape = (1,) if call.integer("keepdims", 1) else ()
    return [(DType.INT64, (*shape[:at], *kept, *shape[at + 1 :]))]


def _attention(call: ShapeCall) -> list[OutputType]:
    dtype, q, k, v = call.dtype_of(0), *(call.shape(i) for i in range(3))
    if len(q) == 4:
        kept = [(*x[:2], _total(call, past, x[2]), x[3]) for past, x in ((4, k), (5, v))]
        return [(dtype, (*q[:3], v[3])), *((dtype, shape) for shape in kept)]
    q_heads, kv_heads = call.integer("q_num_heads", 1), call.integer("kv_num_heads", 1)
    depths = [divide(x[2], kv_heads) for x in (k, v)]
    kept = [(q[0], kv_heads, _total(call, p, k[1]), d) for p, d in zip((4, 5), depths, strict=True)]
    return [(dtype, (*q[:2], depths[1] * q_heads)), *((dtype, shape) for shape in kept)]


def _total(call: ShapeCall, past: int, new: Extent) -> Extent:
    """Tokens behind a cache input, if there is one."""
    given = past < len(call.inputs) and call.inputs[past] is not None
    return call.shape(past)[2] + new if given else new


_LOGICAL = (
    "Equal",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "And",
    "Or",
    "Xor",
    "Not",
    "IsNaN",
    "IsInf",
)
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean")
_UNARY = (
    "Abs", "Neg", "Sqrt", "Exp", "Log", "Erf", "Tanh", "Sigmoid", "Relu", "Softplus", "Sin", "Cos", "Reciprocal",
    "Floor", "Ceil", "Round", "Sign", "Identity", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Gelu", "Swish",
    "Softmax", "LogSoftmax", "RotaryEmbedding", "CumSum", "Trilu", "ScatterND", "CastLike",
)  # fmt: skip


def _known_shape(call: ShapeCall) -> Shape | None:
    """The shape of the first input; None if unknown. For operators whose result has another type."""
    first = call.inputs[0]
    return None if first is None else first.shape


def _quantise(call: ShapeCall) -> list[OutputType]:
    kind = call.dtype_of(2) if len(call.inputs) > 2 and call.inputs[2] else call.dtype("output_dtype")
    return [(kind or DType.UINT8, _known_shape(call))]


def _dequantise(call: ShapeCall) -> list[OutputType]:
    return [(call.dtype_of(1), _known_shape(call))]


def _dynamic_quantise(call: ShapeCall) -> list[OutputType]:
    return [(DType.UINT8, _known_shape(call)), (DType.FLOAT32, ()), (DType.UINT8, ())]


def _matmul_integer(call: ShapeCall) -> list[OutputType]:
    try:
        return [(DType.INT32, shape) for _, shape in _matmul(call)]
    except UnknownShapeError:
        return [(DType.INT32, None)]


def _conv_integer(call: ShapeCall) -> list[OutputType]:
    return [(DType.INT32, None)]


def _pooled(call: ShapeCall) -> list[OutputType]:
    shape = call.shape(0)
    return [(call.dtype_of(0), (*shape[:2], *(1 for _ in shape[2:])))]


SHAPES: dict[str, ShapeRule] = {
    "GlobalAveragePool": _pooled,
    **{kind: _elementwise(DType.BOOL) for kind in _LOGICAL},
    **{kind: _elementwise() for kind in _ARITHMETIC},
    **{kind: _same for kind in _UNARY},
    **{kind: _reduce for kind in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")},
    **{kind: _reduce for kind in ("ReduceSumSquare", "ReduceL2")},
    **{k: _normalised for k in ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")},
    "Where": _elementwise(source=1),
    "Clip": _clip,
    "Cast": _cast,
    "Dropout": _dropout,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Concat": _concat,
    "Expand": _expand,
    "Tile": _tile,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "GatherElements": _gather_elements,
    "Shape": _shape,
    "Size": _scalar,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "TensorScatter": _scattered,
    "ArgMax": _argmax,
    "Attention": _attention,
    "QuantizeLinear": _quantise,
    "DequantizeLinear": _dequantise,
    "DynamicQuantizeLinear": _dynamic_quantise,
    "MatMulInteger": _matmul_integer,
    "ConvInteger": _conv_integer,
}
"""Shape rules by operator type (the same in every domain that has the type)."""


def infer(rule: Callable[[ShapeCall], list[OutputType]] | None, call: ShapeCall) -> list[OutputType]:
    """The output types; of unknown shape where they do not follow."""
    unknown: list[OutputType] = [(call.dtype_of(0), None)] * call.outputs
    if rule is None:
        return unknown
    try:
        types = rule(call)
    except (UnknownShapeError, UndecidedError, ValueError, IndexError, TypeError):
        return unknown
    return (types + unknown)[: max(call.outputs, 1)]
