"""Sessions, on a one-tile language model: the embedding of a token times a matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isa import instructions as t
from isa.diagnostics import CimError
from isa.instruction import DType, Inst
from isa.operands import Addr, ArrayRef, Mem, PortRef, Reg, Space, Special
from isa.program import (
    HOST,
    ArrayData,
    ArrayKind,
    ArraySpec,
    Channel,
    Direction,
    Endpoint,
    Limits,
    MemoryRegion,
    Port,
    Program,
    Role,
    Segment,
    Slice,
    Stream,
    StreamPart,
    Tile,
)
from runtime import numerics
from runtime.inference import Inference
from runtime.session import Session, Step, Stopped, choose
from tests.values.bench import info, same_bits, tiny

VOCABULARY, WIDTH, CONTEXT, CHUNK = 20, 8, 24, 4
rng = np.random.default_rng(31)
TABLE = rng.standard_normal((VOCABULARY, WIDTH)).astype(np.float32)
CELLS = rng.integers(-127, 128, (WIDTH, VOCABULARY)).astype(np.int8)
SCALES = (rng.random(VOCABULARY) + 0.5).astype(np.float32) / np.float32(64)

IDS, E, E8, ES, SUMS, Y = (Addr(offset=512 * i) for i in range(6))
SEGMENTS, I, TOKENS, OUTPUTS, LIMIT = map(Reg, range(1, 6))


def _code() -> tuple[Inst, ...]:
    """For each segment: gather embeddings, multiply, send logits."""
    body: list[Inst] = [
        t.Seg(I),
        t.Sys(TOKENS, Special.TOKENS),
        t.Sys(OUTPUTS, Special.OUTPUTS),
        t.Recv(PortRef(0), IDS, TOKENS, 1),
        t.Gather(E, IDS, Mem(Space.DRAM), TOKENS, WIDTH, LIMIT),
        t.Quant(E8, ES, E, TOKENS, WIDTH),
        t.Mvm(ArrayRef(0), SUMS, E8, OUTPUTS, Reg(0), WIDTH),
        t.Deqc(ArrayRef(0), Y, SUMS, ES, OUTPUTS),
        t.Send(PortRef(1), Y, OUTPUTS, VOCABULARY),
    ]
    head: list[Inst] = [
        t.Li(LIMIT, VOCABULARY),
        t.Sys(SEGMENTS, Special.SEGMENTS),
        t.Loop(I, SEGMENTS, 3 + len(body)),
    ]
    return (*head, *body, t.Halt())


def _program() -> Program:
    data = {"table": TABLE, "cells": CELLS, "scales": SCALES}
    role = Role(
        "lm",
        _code(),
        arrays=(ArraySpec("w", ArrayKind.WEIGHT, WIDTH, VOCABULARY),),
        ports=(Port("ids", Direction.IN), Port("y", Direction.OUT)),
    )
    tile = Tile("lm", "lm", 0, 0, arrays=(ArrayData(Slice("cells", (0, 0)), Slice("scales", (0,))),))
    channels = (
        Channel("ids", (Endpoint(HOST, 0),), (Endpoint(0, 0),)),
        Channel("y", (Endpoint(0, 1),), (Endpoint(HOST, 0),)),
    )
    streams = (
        Stream("input_ids", Direction.IN, DType.I32, 1, (StreamPart(0, 0, 1),)),
        Stream("logits", Direction.OUT, DType.F32, VOCABULARY, (StreamPart(1, 0, VOCABULARY),)),
    )
    return Program(
        tiny(),
        Limits(CONTEXT, CHUNK, segments=3, sequences=2),
        (role,),
        (tile,),
        channels=channels,
        tensors=info(data),
        memory=(MemoryRegion("table", Space.DRAM, 0, 0, TABLE.nbytes, "table"),),
        streams=streams,
        data=data,
    )


PROGRAM = _program()


def _logits(ids: list[int]) -> np.ndarray:
    codes, scales = numerics.quantise(TABLE[ids])
    sums = (codes.astype(int) @ CELLS.astype(int)).astype(np.float32)
    return (sums * scales[:, None]) * SCALES


def test_score_is_every_row_in_as_many_steps_as_it_takes() -> None:
    session = Session(PROGRAM)
    ids = rng.integers(0, VOCABULARY, 22).tolist()
    assert same_bits(session.score(ids), _logits(ids))
    assert session.position() == 22
    assert [len(step) for step in session.steps] == [3, 3]
    assert session.steps[0][0] == Segment(4, 0, 4)


def test_prefill_and_step_give_the_last_row() -> None:
    seen: list[Step] = []
    session = Session(PROGRAM, on_step=seen.append)
    assert same_bits(session.prefill([1, 2, 3, 4, 5, 6]), _logits([6]))
    assert same_bits(session.step([7]), _logits([7]))
    assert same_bits(session.step([8, 9], last_only=False), _logits([8, 9]))
    assert (
        session.steps
        == seen
        == [
            (Segment(4, 0, 0), Segment(1, 4, 0), Segment(1, 5, 1)),
            (Segment(1, 6, 1),),
            (Segment(1, 7, 1), Segment(1, 8, 1)),
        ]
    )
    session.step([3], position=2)
    assert session.position() == 3
    session.step([4], sequence=1)
    assert session.steps[-1] == (Segment(1, 0, 1, 1),)


def test_greedy_generation_follows_the_likeliest() -> None:
    prompt = [3, 1]
    expected, token = [], prompt[-1]
    for _ in range(10):
        token = int(np.argmax(_logits([token])))
        expected.append(token)
    session, streamed = Session(PROGRAM), []
    for _ in range(2):  # one sequence after another
        streamed.clear()
        made = session.generate(prompt, 10, on_token=streamed.append)
        assert list(made.tokens) == expected == streamed
        assert made.prompt == (3, 1)
        assert made.stopped is Stopped.LENGTH
        assert made.steps == (
            (Segment(1, 0, 0), Segment(1, 1, 1)),
            *((Segment(1, i, 1),) for i in range(2, 11)),
        )
    made = session.generate(prompt, 10, stop={expected[2]})
    first = expected.index(expected[2])
    assert list(made.tokens) == expected[: first + 1]
    assert made.stopped is Stopped.STOP


def test_sampling_is_repeatable_and_follows_the_distribution() -> None:
    session = Session(PROGRAM)
    one = session.generate([5], 20, temperature=1.5, seed=4)
    assert session.generate([5], 20, temperature=1.5, seed=4) == one
    assert session.generate([5], 20, temperature=1.5, seed=5).tokens != one.tokens
    logits = np.log(np.array([0.1, 0.0001, 0.6, 0.2999], np.float32))
    draws = np.random.default_rng(1)
    counts = np.bincount([choose(logits, 1.0, draws) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(counts, np.exp(logits), atol=0.03)
    assert choose(logits, 0.0, draws) == 2


def test_the_context_may_be_filled_but_not_exceeded() -> None:
    session = Session(PROGRAM)
    assert len(session.generate([1] * 4, CONTEXT - 3).tokens) == CONTEXT - 3
    assert session.position() == CONTEXT
    for attempt in (
        lambda: session.generate([1] * 4, CONTEXT - 2),
        lambda: session.step([1]),
        lambda: session.score([1] * (CONTEXT + 1)),
    ):
        with pytest.raises(CimError) as caught:
            attempt()
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.code == "E0602"
        assert (
            f"{CONTEXT + 1} tokens are needed, the program's maximum context is {CONTEXT}"
            in diagnostic.message
        )
        assert diagnostic.help is not None


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda s: s.step([VOCABULARY]), "token 20 is not in the vocabulary of 20"),
        (lambda s: s.step([-1]), "token -1"),
        (lambda s: s.step([]), "at least one token"),
        (lambda s: s.generate([], 3), "at least one token"),
        (lambda s: s.generate([1], 0), "at least one new token"),
        (lambda s: s.generate([1], 1, temperature=-1), "temperature"),
        (lambda s: s.step([1], position=1), "leaves a gap"),
        (lambda s: s.step([1], sequence=2), "there is no sequence 2"),
        (lambda s: s.set_source(np.zeros((2, 8))), "looks at no rows of a source"),
        (lambda s: s.set_source_inputs({}), "takes no keys and values of a source"),
    ],
)
def test_wrong_inputs(attempt: object, message: str) -> None:
    assert callable(attempt)
    with pytest.raises(CimError, match=message) as caught:
        attempt(Session(PROGRAM))
    assert caught.value.diagnostics[0].code == "E0601"


def test_inputs_from_files() -> None:
    ids = rng.integers(0, VOCABULARY, (2, 22))
    inference = Inference(PROGRAM)
    one = inference.run({"input_ids": ids[0]})["logits"]
    assert [len(step) for step in inference.steps] == [3, 3]
    both = inference.run({"input_ids": ids})["logits"]
    assert same_bits(one, _logits(ids[0].tolist()))
    assert same_bits(both, np.stack([_logits(row.tolist()) for row in ids]))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"ids": np.zeros(3, int)}, "has no input 'ids'"),
        ({}, "'input_ids' is missing"),
        ({"input_ids": np.zeros(3)}, r"input_ids is float64 \[3\]"),
        ({"input_ids": np.zeros((2, 0), int)}, r"\[2, 0\]"),
    ],
)
def test_wrong_inputs_from_files(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(CimError, match=message) as caught:
        Inference(PROGRAM).run(inputs)
    assert caught.value.diagnostics[0].code == "E0601"


def test_padding_among_the_tokens_is_refused_where_positions_are_counted_without_it() -> None:
    program = _program()
    careful = replace(program, interface=replace(program.interface, padding=(3,)))
    np.testing.assert_array_equal(Session(careful).score([1, 2]), Session(program).score([1, 2]))
    with pytest.raises(CimError, match="token 1 is 3, which the model takes for padding"):
        Session(careful).score([1, 3, 2])
    with pytest.raises(CimError, match="takes for padding"):
        Inference(careful).run({"input_ids": np.array([[3, 1]])})


def test_programs_that_cannot_run() -> None:
    with pytest.raises(CimError) as caught:
        Session(replace(PROGRAM, data=None))
    assert caught.value.diagnostics[0].code == "E0603"
    with pytest.raises(CimError, match="not a decoder of tokens: it computes input_ids -> nothing") as caught:
        Session(replace(PROGRAM, streams=PROGRAM.streams[:1]))
    assert caught.value.diagnostics[0].code == "E0601"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"cells": CELLS, "scales": SCALES}, "tensor 'table' is used but not in the program"),
        ({"table": TABLE, "scales": SCALES}, "tensor 'cells' is used but not in the program"),
        ({"table": TABLE, "scales": SCALES, "cells": CELLS[:5]}, "has no block"),
        ({"table": TABLE, "scales": SCALES[None], "cells": CELLS}, "a slice of 'scales' has 1 dimensions"),
    ],
)
def test_contents_that_do_not_fit(data: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(CimError, match=message) as caught:
        Session(replace(PROGRAM, data=data))
    assert caught.value.diagnostics[0].code == "E0410"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tiles": (replace(PROGRAM.tiles[0], arrays=(None,) * 2),)}, "role lm has 1 arrays"),
        ({"tiles": (replace(PROGRAM.tiles[0], arrays=()),)}, "weight array w has no contents"),
        ({"channels": PROGRAM.channels[::-1]}, "does not end at the host"),
    ],
)
def test_programs_that_do_not_fit_together(change: dict[str, tuple[object, ...]], message: str) -> None:
    with pytest.raises(CimError, match=message) as caught:
        Session(replace(PROGRAM, **change)).step([1])  # type: ignore[arg-type]
    assert caught.value.diagnostics[0].code == "E0410"
