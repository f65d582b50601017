"""Instructions of the units: what they touch in buffer, arrays and memory, and whether they may."""

from __future__ import annotations

from dataclasses import dataclass

from isa import instructions as t
from isa.instruction import Access, ArrayMode, Dim, DType, Field, Inst, Mode
from isa.operands import WORD_BYTES, Addr, ArrayRef, Mem, Space
from isa.program import ArrayKind, ArraySpec

from .arithmetic import divide
from .buffer import Span, pitched
from .context import FAR, Context
from .poly import NOTHING, Poly
from .state import State
from .symbols import INT_HIGH, Op

_FLOAT_ARRAYS = (t.Mvmf, t.Mvmtf, t.Wrowf, t.Rrowf)
_TRANSPOSED = (t.Mvmt, t.Mvmtf)


@dataclass(slots=True)
class Touch:
    """An access to the buffer: the operand's name, whether it reads and writes, where, and how far it steps."""

    name: str
    reads: bool
    writes: bool
    span: Span
    step: Poly


class Operation:
    """One instruction in one state: operands resolved, checked against the target and the role."""

    def __init__(self, ctx: Context, index: int, inst: Inst, state: State) -> None:
        self.ctx, self.index, self.inst, self.state = ctx, index, inst, state
        self.bounds = ctx.bounds(state)
        self.arrays: dict[str, list[ArraySpec]] = {}
        self._dims: dict[str, Poly] = {}
        for field in inst.layout:
            if field.array is not None:
                self.arrays[field.name] = self._candidates(field)
        self.touches = [self._touch(f, f.access) for f in inst.layout if f.access is not None]

    # ---------------------------------------------------------------------------------------------- operands

    def _candidates(self, field: Field) -> list[ArraySpec]:
        """The arrays that the operand may mean."""
        ref: ArrayRef = getattr(self.inst, field.name)
        arrays = self.ctx.job.role.arrays
        number = self.state.regs[ref.offset.index].plus(ref.index)
        if self.bounds.fits(number, 0, len(arrays) - 1):
            return list(arrays[self.bounds.lower(number) : self.bounds.upper(number) + 1])
        message = f"array {self.ctx.text(number)} may not exist; the role has {len(arrays)}"
        self.ctx.find(self.index, "E0401", message, number)
        return []

    def length(self, name: str) -> Poly:
        """A length operand, proven not to be negative."""
        found = self._dims.get(name)
        if found is None:
            found = self.ctx.value(self.state, getattr(self.inst, name))
            if not self.bounds.at_least(found, 0):
                message = f"length `{name}` can be negative: it is {self.ctx.text(found)}"
                self.ctx.find(self.index, "E0411", message, found)
                found = self.ctx.doubtful(0, INT_HIGH)
            self._dims[name] = found
        return found

    def extent(self, dim: Dim) -> Poly:
        """A dimension of an access: a length, a side of an array, or a number."""
        if isinstance(dim, int):
            return Poly(dim)
        name, _, side = dim.partition(".")
        if not side:
            return self.length(name)
        sides = [int(getattr(spec, side)) for spec in self.arrays[name]]
        if not sides:
            return self.ctx.doubtful(0, INT_HIGH)
        return self.ctx.table.unknown(self.ctx.level, min(sides), max(sides))

    def _touch(self, field: Field, access: Access) -> Touch:
        at: Addr = getattr(self.inst, field.name)
        start = self.state.regs[at.base.index].plus(at.offset)
        rows, *rest = [self.extent(dim) for dim in access.dims]
        cols = rest[0] if rest else Poly(1)
        pitch = int(getattr(self.inst, access.pitch)) if access.pitch else 0
        span = pitched(start, rows, cols.times(access.dtype.bytes), pitch * WORD_BYTES)
        if not span.pitch:
            span = Span(start, self._whole_words(span.width))
        update = access.mode is Mode.UPDATE or (
            getattr(self.inst, "acc", False) and access.mode is Mode.WRITE
        )
        reads = update or access.mode is Mode.READ
        step = self._step(span) if at.step else NOTHING
        return Touch(field.name, reads, access.mode is not Mode.READ, span, step)

    def _whole_words(self, length: Poly) -> Poly:
        if length.divisible_by(WORD_BYTES):
            return length
        words = divide(self.ctx.values, self.bounds, length.plus(WORD_BYTES - 1), Poly(WORD_BYTES))
        return words.times(WORD_BYTES)

    def _step(self, span: Span) -> Poly:
        """How far a post-increment goes: the whole length, or nothing if nothing is touched."""
        length = self._whole_words(span.end - span.start)
        if not span.pitch or (self.bounds.at_least(span.rows, 1) and self.bounds.at_least(span.width, 1)):
            return length
        if self.bounds.at_most(span.rows, 0) or self.bounds.at_most(span.width, 0):
            return NOTHING
        plain = self.ctx.values.plain
        args = (span.rows, span.width, Poly(span.pitch))
        return self.ctx.values.opaque(Op.UNKNOWN, args, 0, max(0, plain.upper(length)))

    # ------------------------------------------------------------------------------------------------ checks

    def check(self) -> None:
        """Prove every range; report what cannot be proven."""
        for touch in self.touches:
            self._check_range(touch)
        for field in self.inst.layout:
            if field.array is not None:
                self._check_array(field)
            if field.memory is not None:
                self._check_memory(field)
        self._check_shape()

    def _check_range(self, touch: Touch) -> None:
        size = self.ctx.job.program.target.buffer_bytes
        span, bounds = touch.span, self.bounds
        if not (bounds.at_least(span.start, 0) and bounds.at_most(span.end, size)):
            low, high = bounds.lower(span.start), bounds.upper(span.end) - 1
            reach = f"can reach bytes {low}..{high}" if high - low < FAR else "is not bounded"
            message = f"`{touch.name}` {reach}; the tile buffer has {size}"
            self.ctx.find(
                self.index, "E0402", message, *span.polys(), hint=f"it covers {self.ctx.extent(span)}"
            )
        elif not span.start.divisible_by(WORD_BYTES):
            message = f"`{touch.name}` may not begin at a word: its address is {self.ctx.text(span.start)}"
            self.ctx.find(self.index, "E0402", message, span.start)

    def _check_array(self, field: Field) -> None:
        specs = self.arrays[field.name]
        use = field.array
        assert use is not None
        wanted = DType.F32 if isinstance(self.inst, _FLOAT_ARRAYS) else DType.I8
        for spec in specs:
            if spec.dtype is not wanted:
                message = f"array {spec.name} holds {spec.dtype.value}, not {wanted.value}"
                self.ctx.find(self.index, "E0401", message)
        if use.mode is ArrayMode.ACTIVATE and isinstance(self.inst, _TRANSPOSED):
            self._check_transposable(specs)
        if use.row is None or use.rows is None or not specs:
            return
        row, rows = self.ctx.value(self.state, getattr(self.inst, use.row)), self.length(use.rows)
        self._check_cached(field, use.mode, row, rows)
        spec = min(specs, key=lambda s: s.rows)
        if self.bounds.at_least(row, 0) and self.bounds.at_most(row + rows, spec.rows):
            return
        low, high = self.bounds.lower(row), self.bounds.upper(row + rows) - 1
        message = f"can reach rows {low}..{high} of array {spec.name}, which has {spec.rows}"
        hint = f"row is {self.ctx.text(row)}, and there are {self.ctx.text(rows)} rows"
        self.ctx.find(self.index, "E0403", message, row, rows, hint=hint)

    def _check_cached(self, field: Field, mode: ArrayMode, row: Poly, rows: Poly) -> None:
        """Note rows that are appended to a KV cache; those that are used must have been."""
        ref: ArrayRef = getattr(self.inst, field.name)
        number = self.state.regs[ref.offset.index].plus(ref.index)
        for array in range(self.bounds.lower(number), self.bounds.upper(number) + 1):
            if mode is not ArrayMode.WRITE:
                self.ctx.appends.check(self.ctx, self.index, self.state, array, row, rows)
            elif not number.terms:
                self.ctx.appends.append(self.ctx, self.state, array, row, rows)

    def _check_group(self, inst: t.Deqg) -> None:
        """The group of rows whose scales are meant must exist in every array that may be meant."""
        group = self.ctx.value(self.state, inst.group)
        for spec in self.arrays["a"]:
            if not self.bounds.fits(group, 0, spec.groups - 1):
                message = f"group {self.ctx.text(group)} may not exist: array {spec.name} has {spec.groups}"
                self.ctx.find(self.index, "E0403", message, group)

    def _check_transposable(self, specs: list[ArraySpec]) -> None:
        target = self.ctx.job.program.target
        macros = [target.macro if spec.kind is ArrayKind.WEIGHT else target.written for spec in specs]
        if not all(macro.transposable for macro in macros):
            message = f"the macros of target {target.name} cannot be activated along their columns"
            self.ctx.find(self.index, "E0401", message)

    def _check_distance(self, inst: t.Vrel | t.Vslope) -> None:
        """Rows of a token are counted in groups; each of a group has a bias for distances -reach..reach."""
        if not inst.group:
            self.ctx.find(self.index, "E0411", "the rows of a token are counted in groups of 0")
        elif isinstance(inst, t.Vrel) and inst.entries % (2 * inst.group) != inst.group:
            message = f"a table of {inst.entries} numbers does not give {inst.group} rows of 2 reach + 1 each"
            self.ctx.find(self.index, "E0411", message)

    def _check_shape(self) -> None:
        inst = self.inst
        if isinstance(inst, t.Rope):
            whole = not inst.cols or (inst.dim and inst.cols % inst.dim == 0)
            if inst.rot % 2 or inst.rot > inst.dim or not whole:
                message = f"cannot turn {inst.rot} features of {inst.dim}-wide heads in rows of {inst.cols}"
                self.ctx.find(self.index, "E0411", message)
        if isinstance(inst, t.Deqg):
            self._check_group(inst)
        if isinstance(inst, t.Vrel | t.Vslope):
            self._check_distance(inst)
        if isinstance(inst, t.Smx | t.Smxi) and (inst.causal or inst.window) and not inst.group:
            self.ctx.find(self.index, "E0411", "the rows of a token are counted in groups of 0")

    # ------------------------------------------------------------------------------------------------ memory

    def _check_memory(self, field: Field) -> None:
        """Prove, for each tile, that the bytes lie within one region of its chip."""
        if not self.ctx.recording:
            return
        at: Mem = getattr(self.inst, field.name)
        assert field.memory is not None
        rows = (
            self.ctx.value(self.state, self.inst.limit)
            if isinstance(self.inst, t.Gather)
            else self.length("n")
        )
        extent = self._memory_extent(rows)
        by_params, rest = self._parted(self.state.regs[at.base.index].plus(at.offset))
        if self.bounds.at_most(extent, 0):
            return
        low, high = self.bounds.lower(rest), self.bounds.upper(rest + extent)
        job, bases = self.ctx.job, self._bases(by_params)
        for number, base in enumerate(bases):
            tile = job.program.tiles[job.tiles[number]]
            chip = job.program.target.chip_of(tile.x, tile.y)
            if not job.memory.holds(at.space, chip, base + low, base + high):
                space = at.space.name.lower()
                message = (
                    f"tile {tile.name} can reach bytes {base + low}..{base + high - 1} of {space} of chip {chip}, "
                    "which do not lie within one region"
                )
                self.ctx.find(self.index, "E0409", message, rest, extent)
                return
        if at.space is Space.DRAM and job.planes:
            addresses = [(tile, rest.plus(base)) for tile, base in zip(job.tiles, bases, strict=True)]
            self.ctx.stored.access(self.ctx, self.index, self.state, field.memory.mode, extent, addresses)

    def _memory_extent(self, rows: Poly) -> Poly:
        """Bytes from the first to the last."""
        width = self.length("cols").times(WORD_BYTES)
        pitch = int(getattr(self.inst, "pitch", 0))
        if not pitch:
            return rows * width
        return width + (rows.plus(-1)).times(pitch)

    def _parted(self, address: Poly) -> tuple[Poly, Poly]:
        """The address as a part that the tile's parameters give and the rest."""
        params = self.ctx.param_values
        mine = tuple((mono, c) for mono, c in address.terms if all(n in params for n in mono))
        by_params = Poly(0, mine)
        return by_params, address - by_params

    def _bases(self, by_params: Poly) -> list[int]:
        """The value of a sum of products of parameters, in each tile."""
        totals = [0] * len(self.ctx.job.tiles)
        for mono, coefficient in by_params.terms:
            for number in range(len(totals)):
                product = coefficient
                for symbol in mono:
                    product *= self.ctx.param_values[symbol][number]
                totals[number] += product
        return totals
