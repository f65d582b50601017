"""Facts of the step and its segments as symbols: what `sys` reads, and what is known of it.

A step has two lists of segments: of rows of a source (cross-attention), and of tokens. Each has facts of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isa.operands import Special
from isa.program import Limits

from .poly import NOTHING, Poly, symbol_poly
from .symbols import Limit, Op, Shape, SymbolTable


class Over(Enum):
    """What a segment has rows of; the value is the name of the counter of a loop over such segments."""

    TOKENS = "segment"
    SOURCE = "source.segment"

    @property
    def text(self) -> str:
        """How a segment is called."""
        return "segment" if self is Over.TOKENS else "source segment"


@dataclass(frozen=True, slots=True)
class Current:
    """The current segment: which list it is of and its index there. `over` is None if it may be of either."""

    over: Over | None = Over.TOKENS
    index: Poly = NOTHING


EITHER = Current(None)
FACTS: dict[Over, dict[Special, Op]] = {
    Over.TOKENS: {
        Special.TOKENS: Op.TOKENS,
        Special.POSITION: Op.POSITION,
        Special.OUTPUTS: Op.OUTPUTS,
        Special.SEQUENCE: Op.SEQUENCE,
        Special.END: Op.END,
        Special.SOURCE: Op.SOURCE,
    },
    Over.SOURCE: {
        Special.TOKENS: Op.SOURCE_TOKENS,
        Special.POSITION: Op.SOURCE_POSITION,
        Special.SEQUENCE: Op.SOURCE_SEQUENCE,
        Special.END: Op.SOURCE_END,
        Special.SOURCE: Op.SOURCE_END,
    },
}
"""The symbols behind what `sys` reads; a source segment has no outputs."""
_OVER = {op: over for over, facts in FACTS.items() for op in facts.values()}
_TOKENS_OF = {Op.POSITION: Op.TOKENS, Op.SOURCE_POSITION: Op.SOURCE_TOKENS}
_COUNTS = {Over.TOKENS: Op.SEGMENTS, Over.SOURCE: Op.SOURCES}


class Segments:
    """The symbols for the facts of a step within the program's limits, made when they are asked for."""

    def __init__(self, table: SymbolTable, limits: Limits) -> None:
        self.table = table
        self.limits = limits

    def count(self, over: Over) -> Poly:
        """How many segments the step has: at least one of tokens, maybe none of a source."""
        low, high = 1, self.limits.segments
        if over is Over.SOURCE:
            low, high = 0, self.limits.segments if self.limits.max_source else 0
        if low == high:
            return Poly(low)
        op = _COUNTS[over]
        found = self.table.find(op)
        return found or self.table.make(op, Shape(low, high), name=op.value, key=op, shared=True)

    def fact(self, op: Op, index: Poly) -> Poly:
        """The fact `op` of the segment with this index in its list."""
        found = self.table.find((op, index))
        if found is None:
            self._make(_OVER[op], index)
            found = self.table.find((op, index))
            assert found is not None
        return found

    def read(self, what: Special, current: Current, level: int) -> Poly:
        """What `sys` reads of the current segment; within the bounds of both if it may be of either list."""
        if current.over is not None:
            op = FACTS[current.over].get(what)
            return Poly(0) if op is None else self.fact(op, current.index)
        return self.table.unknown(level, 0, self._most(what))

    def page(self, segment: Poly, index: Poly) -> Poly:
        """The page of the KV arrays that holds page `index` of the sequence of this segment of tokens."""
        key = Op.PAGE, segment, index
        found = self.table.find(key)
        if found is not None:
            return found
        if self._has_one_page:
            return self.table.keep(key, Poly(0))
        where = "" if self.is_counter(Over.TOKENS, segment) else f"{self.table.text(segment)}, "
        name = f"page({where}{self.table.text(index)})"
        shared = self.table.shared(segment) and self.table.shared(index)
        shape = Shape(0, self.limits.pages - 1)
        return self.table.make(Op.PAGE, shape, name=name, key=key, args=(segment, index), shared=shared)

    @property
    def _has_one_page(self) -> bool:
        """Whether a sequence has one page at most: if arrays on several tiles have one each, it may be any of them."""
        return self.limits.pages == 1 and self.limits.page_ways == 1

    def page_at(self, value: Poly, segment: Poly) -> Poly | None:
        """The `index` of which `page(segment, index)` is a term of the value, once for each row of a page."""
        if self._has_one_page:
            return Poly(0)
        for mono, coefficient in value.terms:
            symbol = self.table.symbols[mono[0]]
            is_page = len(mono) == 1 and symbol.op is Op.PAGE and symbol.args[0] == segment
            if is_page and coefficient == self.limits.page_rows:
                return symbol.args[1]
        return None

    def tokens_at(self, position: Poly) -> Poly | None:
        """The tokens of the segment that, with its position here, would lie within a block of `chunk` rows.

        Such values are its position, that and a multiple of `chunk`, and the larger of one of these and 0.
        """
        if position.const % self.limits.chunk or len(position.terms) != 1 or position.terms[0][1] != 1:
            return None
        symbol = self.table.symbols[position.terms[0][0][0]]
        if len(position.terms[0][0]) != 1:
            return None
        if symbol.op is Op.MAX and NOTHING in symbol.args:
            return self.tokens_at(next(arg for arg in symbol.args if arg != NOTHING))
        return self.fact(_TOKENS_OF[symbol.op], symbol.args[0]) if symbol.op in _TOKENS_OF else None

    def is_fact(self, op: Op) -> bool:
        """Whether symbols of this kind are facts of a segment; their argument is its index."""
        return op in _OVER

    def is_counter(self, over: Over, index: Poly) -> bool:
        """Whether the index is the counter of a loop over the segments of this list."""
        if len(index.terms) != 1:
            return False
        number = index.terms[0][0][0]
        return index == symbol_poly(number) and self.table.symbols[number].name == over.value

    # -------------------------------------------------------------------------------------------- the symbols

    def _rows(self, over: Over) -> int:
        """Rows that a sequence, or its source, has at most."""
        return self.limits.max_context if over is Over.TOKENS else self.limits.max_source

    def _most(self, what: Special) -> int:
        """The largest value that `what` has in any segment."""
        limits, rows = self.limits, max(map(self._rows, Over))
        match what:
            case Special.TOKENS | Special.OUTPUTS:
                return min(limits.chunk, rows)
            case Special.SEQUENCE:
                return limits.sequences - 1
            case _:
                return rows

    def _make(self, over: Over, index: Poly) -> None:
        rows = max(1, self._rows(over))  # a source segment where there can be none has been reported
        chunk = min(self.limits.chunk, rows)
        tokens = self._symbol(over, Special.TOKENS, index, Shape(1, chunk))
        ends = Shape(0, rows - 1, uppers=((Poly(rows) - tokens, 1),))
        position = self._symbol(over, Special.POSITION, index, ends)
        self._symbol(over, Special.SEQUENCE, index, Shape(0, self.limits.sequences - 1))
        self._symbol(over, Special.END, index, Shape(1, rows, lowers=((position + tokens, 1),)))
        if over is Over.TOKENS:
            upper: Limit = tokens, 1
            self._symbol(over, Special.OUTPUTS, index, Shape(0, chunk, uppers=(upper,)))
            self._symbol(over, Special.SOURCE, index, Shape(0, self.limits.max_source))

    def _symbol(self, over: Over, what: Special, index: Poly, shape: Shape) -> Poly:
        op = FACTS[over][what]
        if shape.low == shape.high:
            return self.table.keep((op, index), Poly(shape.low))
        name = op.value if self.is_counter(over, index) else f"{op.value}({self.table.text(index)})"
        shared = self.table.shared(index)
        return self.table.make(op, shape, name=name, key=(op, index), args=(index,), shared=shared)
