"""What instructions of the units do to an analysis: reads are proven, writes noted, messages recorded."""

from __future__ import annotations

from isa import instructions as t
from isa.instruction import Inst
from isa.program import Direction

from .access import Operation, Touch
from .cells import execute_cells
from .context import Context
from .poly import Poly
from .state import State

MAX_NEAR = 3  # spans around a missing one that are named
_SAY = {Direction.IN: "recv", Direction.OUT: "send", Direction.BARRIER: "barrier"}


def execute_unit(ctx: Context, index: int, inst: Inst, state: State) -> None:
    """Check an instruction of a unit and apply it to the state."""
    operation = Operation(ctx, index, inst, state)
    if ctx.recording:
        operation.check()
        for touch in operation.touches:
            if touch.reads:
                _prove_written(ctx, index, touch, state)
        _record(ctx, index, operation, state)
        for touch in operation.touches:
            if touch.writes:
                state.facts.add(operation.bounds, touch.span)
    if operation.arrays:
        execute_cells(ctx, index, operation, state)
    for field in inst.layout:
        at = getattr(inst, field.name)
        if field.access is not None and at.step:
            touch = next(touch for touch in operation.touches if touch.name == field.name)
            state.set(at.base.index, ctx.values.fit(operation.bounds, state.regs[at.base.index] + touch.step))


def _prove_written(ctx: Context, index: int, touch: Touch, state: State) -> None:
    bounds, span = ctx.bounds(state), touch.span
    if state.facts.covers(bounds, span):
        return
    message = f"`{touch.name}` reads {ctx.extent(span)}, not all of them surely written before"
    near = [
        fact
        for fact in state.facts.near(bounds, span)
        if fact not in ctx.pretended and not any(map(ctx.table.doubtful, fact.polys()))
    ]
    notes = tuple(f"surely written: {ctx.extent(fact)}" for fact in near[:MAX_NEAR])
    hint = "it must hold on every path and for all lengths; a loop may not run, a branch may be taken"
    ctx.find(index, "E0404", message, *span.polys(), hint=hint, notes=notes)
    ctx.pretended.add(span)
    state.facts.add(bounds, span)


def _record(ctx: Context, index: int, operation: Operation, state: State) -> None:
    inst = operation.inst
    if isinstance(inst, t.Send | t.Recv | t.Barrier):
        _record_message(ctx, index, inst, operation, state)
        return
    reads = [ctx.granules(state, touch.span) for touch in operation.touches if touch.reads]
    writes = [ctx.granules(state, touch.span) for touch in operation.touches if touch.writes]
    ctx.recorder.touch(reads, writes)


def _record_message(
    ctx: Context, index: int, inst: t.Send | t.Recv | t.Barrier, operation: Operation, state: State
) -> None:
    direction = {t.Send: Direction.OUT, t.Recv: Direction.IN, t.Barrier: Direction.BARRIER}[type(inst)]
    port = state.regs[inst.port.offset.index].plus(inst.port.index)
    if not _is_port(ctx, index, port, direction, state) or not _may_talk(ctx, index):
        return
    if isinstance(inst, t.Barrier):
        ctx.recorder.barrier(index, port)
        return
    size = operation.length("n"), operation.length("cols")
    where = ctx.granules(state, operation.touches[0].span)
    if isinstance(inst, t.Send):
        ctx.recorder.send(index, port, size, where)
    else:
        ctx.recorder.recv(index, port, size, where)


def _is_port(ctx: Context, index: int, port: Poly, direction: Direction, state: State) -> bool:
    ports, bounds = ctx.job.role.ports, ctx.bounds(state)
    if not bounds.fits(port, 0, len(ports) - 1):
        message = f"port {ctx.text(port)} may not exist; the role has {len(ports)}"
        ctx.find(index, "E0401", message, port)
        return False
    for candidate in ports[bounds.lower(port) : bounds.upper(port) + 1]:
        if candidate.direction is not direction:
            message = (
                f"port {candidate.name} goes {candidate.direction.value}; `{_SAY[direction]}` cannot use it"
            )
            ctx.find(index, "E0401", message, port)
            return False
    return True


def _may_talk(ctx: Context, index: int) -> bool:
    """Whether a message here happens the same number of times whatever the step is."""
    if any(ctx.branches) or ctx.maybe_halted:
        message = "a message under a branch that the tile's parameters do not decide"
        hint = "send a message of zero rows instead: it still synchronises"
        ctx.find(index, "E0405", message, hint=hint)
        return False
    if ctx.loops and (len(ctx.loops) > 1 or ctx.loops[0] is None):
        message = "a message in a loop whose count other tiles cannot be shown to share"
        hint = (
            "loops around messages run a constant number of times, or once for each segment or source segment"
        )
        ctx.find(index, "E0405", message, hint=hint)
        return False
    return True
