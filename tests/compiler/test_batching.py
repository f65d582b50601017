"""Continuous batching: what a request gives does not depend on who shares its steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.diagnostics import CimError
from isa.program import Program
from runtime.batching import Batch, Batcher, Request
from runtime.paging import check_pages
from runtime.session import Session, Stopped

from .building import Choices, program_of, tiny
from .graphs import Shape, decoder

CONTEXT = 192
TEXT = tuple(np.random.default_rng(5).integers(0, 64, CONTEXT).tolist())


@pytest.fixture(scope="module")
def paged() -> Program:
    """Three sequences that share five pages; the longest takes three."""
    choices = Choices(CONTEXT, sequences=3, kv_tokens=320, ways=1, copies=1)
    return program_of(decoder(Shape(layers=1)), tiny(14), choices)


@pytest.fixture(scope="module")
def alone() -> Session:
    return Session(
        program_of(decoder(Shape(layers=1)), tiny(14), Choices(CONTEXT, ways=1, kv_block=64, copies=1))
    )


requests = st.builds(
    lambda start, length, new, arrival, temperature: Request(
        TEXT[start : start + length], new, arrival, temperature, seed=start, stop=frozenset({7})
    ),
    st.integers(0, 40),
    st.integers(1, 150),
    st.integers(1, 12),
    st.integers(0, 12),
    st.sampled_from([0.0, 2.0]),
)


@settings(max_examples=6)
@given(st.lists(requests, min_size=1, max_size=5), st.sampled_from([1, 20, 64, 500]))
def test_each_request_gives_what_it_gives_alone(
    paged: Program, alone: Session, wanted: list[Request], prefill: int
) -> None:
    session = Session(paged)
    batch = Batcher(session, prefill_tokens=prefill).run(wanted)
    for request, found in zip(wanted, batch.generations, strict=True):
        expected = alone.generate(
            request.prompt,
            request.max_new_tokens,
            temperature=request.temperature,
            seed=request.seed,
            stop=request.stop,
        )
        assert (found.prompt, found.tokens, found.stopped) == (
            expected.prompt,
            expected.tokens,
            expected.stopped,
        )
    through = sum(segment.tokens for step in batch.steps for segment in step)
    assert through == sum(len(g.prompt) + len(g.tokens) - 1 for g in batch.generations)
    assert session.pool.use.pages_used == 0
    for step, use in zip(batch.steps, batch.uses, strict=True):
        check_pages(paged.limits, step)
        assert use.tokens <= use.allocated <= use.capacity == 320


def _spans(batch: Batch) -> list[tuple[int, int]]:
    """The first and the last step of each generation."""
    at = {id(step): number for number, step in enumerate(batch.steps)}
    return [(at[id(g.steps[0])], at[id(g.steps[-1])]) for g in batch.generations]


def test_requests_share_steps_and_wait_for_room(paged: Program) -> None:
    long, short = Request(TEXT[:120], 4), Request(TEXT[:10], 3)
    batch = Batcher(Session(paged), prefill_tokens=40).run([long, short, long, short])
    spans = _spans(batch)
    # two long ones take four pages, a short one one: the first three begin as the prompts before them are through
    assert [first for first, _ in spans] == [0, 3, 3, spans[1][1] + 1]
    assert spans[2][0] < spans[0][1]
    assert max(use.pages_used for use in batch.uses) == 5
    assert [g.stopped for g in batch.generations] == [Stopped.LENGTH] * 4


def test_requests_come_when_they_arrive(paged: Program) -> None:
    later, first = Request(TEXT[:10], 3, arrival=2), Request(TEXT[:20], 2)
    batch = Batcher(Session(paged)).run([later, first])
    assert [len(step) for step in batch.steps] == [3, 1, 2, 1, 1]
    assert _spans(batch) == [(2, 4), (0, 1)]


def test_full_arrays_make_requests_wait_not_fail(paged: Program) -> None:
    batch = Batcher(Session(paged)).run([Request(TEXT[:180], 12)] * 3)
    spans = _spans(batch)
    assert spans[0][1] < spans[1][0]
    assert spans[1][1] < spans[2][0]
    assert len({g.tokens for g in batch.generations}) == 1


def test_what_cannot_be_served_is_refused_at_once(paged: Program) -> None:
    session = Session(paged)
    for request, code in (
        (Request(TEXT[:180], 14), "E0602"),
        (Request((), 1), "E0601"),
        (Request((1,), 0), "E0601"),
    ):
        with pytest.raises(CimError, match=code):
            Batcher(session).run([Request((1, 2), 2), request])
    assert not session.steps


def test_a_session_refuses_what_its_pages_do_not_hold(paged: Program) -> None:
    session = Session(paged)
    session.prefill(TEXT[:190], sequence=0)
    session.prefill(TEXT[:100], sequence=1)
    with pytest.raises(CimError, match=r"E0607.*5 pages of 64 rows, 0 free"):
        session.prefill([1], sequence=2)
    session.reset(1)
    session.prefill([1], sequence=2)
