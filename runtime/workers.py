"""Steps that do not depend on each other, simulated by several processes side by side."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from isa.program import Segment
from runtime.fast import Timer
from runtime.timing.result import StepCost

Step = Sequence[Segment]
RUN = 8
"""Successive steps that a process takes at once: one often passes as the one before it does."""

_timer: Timer | None = None  # of the processes that share the work: they begin with all that this one has


def can_share() -> bool:
    """Whether processes can begin with what this one has in memory."""
    return "fork" in multiprocessing.get_all_start_methods()


@contextmanager
def costs_of(timer: Timer, steps: Iterable[Step], jobs: int = 1) -> Iterator[Iterator[StepCost]]:
    """The costs of steps, in their order, found by so many processes; what they are at ends with the context."""
    if jobs == 1 or not can_share():
        yield map(timer.step, steps)
        return
    global _timer
    _timer = timer
    pool = multiprocessing.get_context("fork").Pool(jobs, _begin)
    try:
        yield pool.imap(_cost, steps, RUN)
    finally:
        pool.terminate()
        pool.join()
        _timer = None


def _begin() -> None:
    """Leave Ctrl-C to the process that waits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _cost(step: Step) -> StepCost:
    assert _timer is not None
    return _timer.step(step)
