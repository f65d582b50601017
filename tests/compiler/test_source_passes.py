"""Several passes over the source: an encoder and the decoder that looks at it, on one tile, one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.backend.build import build_program, choose_chunk, with_chunk
from compiler.backend.emitter import Emitter
from compiler.backend.layout import plan_buffer
from compiler.backend.registers import Unplaced
from compiler.ir import meaning
from compiler.ir.graph import Attention
from compiler.ir.mapping import Arithmetic, Block, Format, Mapping, MapTile, MapValue, Rows, Template
from compiler.ir.mapping_text import parse_mapping, print_mapping
from compiler.ir.mapping_verify import verify_mapping
from compiler.ir.operations import Add, Append, Attend, Receive, Send
from isa.diagnostics import CimError
from isa.instruction import DType
from isa.program import (
    HOST,
    ArrayKind,
    ArraySpec,
    Channel,
    Direction,
    Endpoint,
    Limits,
    Origin,
    Port,
    Program,
    Segment,
    Stream,
    StreamPart,
    segments_of,
)
from isa.verifier import verify
from runtime.machine import Machine
from runtime.segments import source_segments_of

from .building import with_quantity
from .heads import F32, TARGET

DIM, CONTEXT, SOURCE, SEQUENCES = 8, 32, 56, 2
ARRAYS = {"source_rows": SOURCE, "encoded": SOURCE, "cached": CONTEXT}
VALUES = {
    "s": Rows.SEQUENCE,
    "e": Rows.TOKENS,
    "x": Rows.TOKENS,
    "own": Rows.TOKENS,
    "seen": Rows.TOKENS,
    "y": Rows.TOKENS,
}


def _attend(out: str, q: str, array: str, *, causal: bool = False, cross: bool = False) -> Attend:
    return Attend(out, q, array, array, 1, DIM, DIM, 0.5, 16, causal=causal, cross=cross)


def _template(arithmetic: Arithmetic) -> Template:
    blocks = (
        (0, Receive("s", (("source", 0, DIM),))),
        (0, Append("source_rows", "s")),
        (1, _attend("e", "s", "source_rows")),
        (1, Add("e", "e", "s")),
        (1, Append("encoded", "e")),
        (2, Receive("x", (("x", 0, DIM),))),
        (2, Append("cached", "x")),
        (2, _attend("own", "x", "cached", causal=True)),
        (2, _attend("seen", "own", "encoded", cross=True)),
        (2, Add("y", "own", "seen")),
        (2, Send("y", (("y", 0, DIM),), wanted=True)),
    )
    return Template(
        "both",
        tuple(Block(op, "work", phase) for phase, op in blocks),
        tuple(MapValue(name, Format.F32, DIM, rows) for name, rows in VALUES.items()),
        tuple(
            ArraySpec(name, ArrayKind.KV, rows * SEQUENCES, DIM, arithmetic.dtype)
            for name, rows in ARRAYS.items()
        ),
        (Port("source", Direction.IN), Port("x", Direction.IN), Port("y", Direction.OUT)),
        source_phases=2,
    )


def _mapping(arithmetic: Arithmetic = Arithmetic.FLOAT32) -> Mapping:
    host = Endpoint(HOST, 0)
    streams = (("source", Direction.IN, True), ("x", Direction.IN, False), ("y", Direction.OUT, False))
    return Mapping(
        *("both", TARGET.name, arithmetic, Limits(CONTEXT, 1, 64, SEQUENCES, SOURCE)),
        templates=(_template(arithmetic),),
        tiles=(MapTile("t0", "both", 0, 0, arrays=(None,) * len(ARRAYS), nodes=("/work",)),),
        channels=(
            Channel("source", (host,), (Endpoint(0, 0),)),
            Channel("x", (host,), (Endpoint(0, 1),)),
            Channel("y", (Endpoint(0, 2),), (host,)),
        ),
        streams=tuple(
            Stream(name, direction, DType.F32, DIM, (StreamPart(index, 0, DIM),), is_source)
            for index, (name, direction, is_source) in enumerate(streams)
        ),
        data={},
    )


def _program(arithmetic: Arithmetic, most: int) -> Program:
    made = _mapping(arithmetic)
    made = with_chunk(made, choose_chunk(made, TARGET, most))
    return build_program(made, TARGET, Origin(), shapes_only=False)


def _cuts(program: Program, s: F32, x: F32, sequence: int) -> tuple[list[Segment], list[Segment]]:
    """The segments of the source and those of the tokens."""
    chunk = program.limits.chunk
    tokens = segments_of(len(x), 0, chunk, last_only=False, sequence=sequence)
    first = source_segments_of(len(s), chunk, sequence=sequence)
    return list(first), [replace(segment, source=len(s)) for segment in tokens]


def _run(program: Program, s: F32, x: F32, sequence: int = 0) -> F32:
    first, tokens = _cuts(program, s, x, sequence)
    return np.asarray(Machine(program).step([*first, *tokens], {"source": s, "x": x})["y"])


def _rows(source: int, tokens: int) -> tuple[F32, F32]:
    random = np.random.default_rng(3)
    return tuple(random.standard_normal((n, DIM), np.float32) for n in (source, tokens))  # type: ignore[return-value]


def _expected(s: F32, x: F32) -> F32:
    def attention(q: F32, rows: F32, *, causal: bool = False) -> F32:
        op = Attention(1, 1, DIM, DIM, 0.5, causal)
        found = meaning.attention(op, q[None], rows[None, None], rows[None, None])[0]
        return np.asarray(found, np.float32)

    own = attention(x, x, causal=True)
    return own + attention(own, attention(s, s) + s)


def test_the_mapping_hangs_together_and_reads_back() -> None:
    verify_mapping(_mapping())
    assert parse_mapping(print_mapping(_mapping())) == _mapping()


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_the_program_verifies(arithmetic: Arithmetic) -> None:
    verify(_program(arithmetic, 16))


@pytest.mark.parametrize(("source", "tokens"), [(56, 32), (16, 17), (1, 1), (33, 5)])
def test_source_and_tokens_meet(source: int, tokens: int) -> None:
    s, x = _rows(source, tokens)
    found = _run(_program(Arithmetic.FLOAT32, 16), s, x, sequence=1)
    np.testing.assert_allclose(found, _expected(s, x), rtol=0, atol=4e-6)


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_two_sequences_share_a_step(arithmetic: Arithmetic) -> None:
    program = _program(arithmetic, 16)
    given = [_rows(41, 21), _rows(7, 30)]
    cuts = [_cuts(program, *rows, at) for at, rows in enumerate(given)]
    segments = [*cuts[0][0], *cuts[1][0], *cuts[0][1], *cuts[1][1]]
    s, x = (np.concatenate(rows) for rows in zip(*given, strict=True))
    found = Machine(program).step(segments, {"source": s, "x": x})["y"]
    alone = [_run(program, *rows) for rows in given]
    np.testing.assert_array_equal(found, np.concatenate(alone))


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_segment_length_changes_no_bit(arithmetic: Arithmetic) -> None:
    s, x = _rows(41, 21)
    whole = _run(_program(arithmetic, 16), s, x)
    for most in (1, 4):
        np.testing.assert_array_equal(_run(_program(arithmetic, most), s, x), whole)


def test_what_is_kept_of_the_source_has_room_for_all_its_rows() -> None:
    made = with_chunk(_mapping(), 4)
    (template,) = made.templates
    plan = plan_buffer(template, made.arithmetic, made.limits, TARGET)
    sizes = {region.name: region.bytes for region in plan.regions}
    assert sizes["s"] == 4 * DIM * SOURCE * SEQUENCES
    assert sizes["x"] == 4 * DIM * 4


def test_the_segment_is_shorter_where_the_source_takes_the_buffer() -> None:
    made = _mapping()
    small = with_quantity(TARGET, "tile", "buffer", 8)
    chosen = [
        choose_chunk(replace(made, limits=replace(made.limits, max_source=rows)), small, None)
        for rows in (16, 48, 80)
    ]
    assert chosen == sorted(chosen, reverse=True) and chosen[0] > chosen[-1]
    with pytest.raises(CimError, match=r"(?s)largest: s 16,384.*--max-source.*--batch"):
        choose_chunk(replace(made, limits=replace(made.limits, max_source=256)), small, None)


@pytest.mark.parametrize("tables", [0, 3, 8])
def test_registers_are_those_that_mean_nothing_else(tables: int) -> None:
    made = with_chunk(_mapping(), 4)
    names = tuple(f"table{number}" for number in range(tables))
    template = replace(made.templates[0], tables=names)
    emitter = Emitter(
        template, plan_buffer(template, made.arithmetic, made.limits, TARGET), made.arithmetic, made.limits
    )
    emitter.begin(0, 0, 0)
    given = [emitter.register() for _ in range(21 - tables)]
    assert len({*given, *emitter.table_register.values()}) == 21
    assert min(register.index for register in given) == 11
    assert isinstance(emitter.register(), Unplaced)
