"""Which rows and column scales of streamed arrays are surely written (E0404).

They are facts like bytes of the buffer (`buffer.py`), at addresses behind it: each array has a range of its own, a row
takes one address, and all column scales take another. So loops and joins treat them as they treat the buffer.
"""

from __future__ import annotations

from isa.instruction import ArrayMode, Field
from isa.operands import ArrayRef
from isa.program import ArrayKind

from .access import Operation
from .buffer import ONE, Span, dense
from .context import Context
from .poly import Poly
from .state import State

_FIRST, _STRIDE, _SCALES = 1 << 40, 1 << 24, 1 << 23


def execute_cells(ctx: Context, index: int, operation: Operation, state: State) -> None:
    """Prove that what an instruction uses of streamed arrays is written, and note what it writes."""
    for field in operation.inst.layout:
        if field.array is None or not ctx.recording:
            continue
        for number in _streamed(ctx, operation, field, state):
            span = _span(operation, field, number)
            if field.array.mode in (ArrayMode.WRITE, ArrayMode.WRITE_SCALES):
                state.facts.add(operation.bounds, span)
            elif not state.facts.covers(operation.bounds, span):
                _report(ctx, index, number, field)


def _streamed(ctx: Context, operation: Operation, field: Field, state: State) -> list[int]:
    """The streamed arrays that the operand may mean; of one that is written, none if it is not known which."""
    ref: ArrayRef = getattr(operation.inst, field.name)
    number = state.regs[ref.offset.index].plus(ref.index)
    arrays = ctx.job.role.arrays
    low, high = operation.bounds.lower(number), operation.bounds.upper(number)
    assert field.array is not None
    if low < high and field.array.mode in (ArrayMode.WRITE, ArrayMode.WRITE_SCALES):
        return []
    meant = range(max(low, 0), min(high + 1, len(arrays)))
    return [n for n in meant if arrays[n].kind is ArrayKind.STREAM]


def _span(operation: Operation, field: Field, number: int) -> Span:
    use, base = field.array, _FIRST + number * _STRIDE
    assert use is not None
    if use.mode in (ArrayMode.SCALES, ArrayMode.WRITE_SCALES) or use.row is None or use.rows is None:
        return dense(Poly(base + _SCALES), ONE)
    row = operation.ctx.value(operation.state, getattr(operation.inst, use.row))
    return dense(row.plus(base), operation.length(use.rows))


def _report(ctx: Context, index: int, number: int, field: Field) -> None:
    name = ctx.job.role.arrays[number].name
    assert field.array is not None
    what = "column scales" if field.array.mode is ArrayMode.SCALES else "rows"
    message = f"uses {what} of streamed array {name} that are not surely written before"
    ctx.find(index, "E0404", message, hint="`wrowc` writes rows, `wscale` column scales")
