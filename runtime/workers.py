"""Steps that do not depend on each other, simulated by several processes side by side."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from isa.diagnostics import fail
from isa.program import Segment
from runtime.fast import Timer
from runtime.timing.result import StepCost

Step = Sequence[Segment]

# A pool hands its processes nothing but steps, so what they share lies here. It is set in forked processes alone, once,
# before their first step; in the one that asked it stays None.
_timer: Timer | None = None


@contextmanager
def costs_of(timer: Timer, steps: Iterable[Step], jobs: int = 1) -> Iterator[Iterator[StepCost]]:
    """The costs of steps, in their order, found by so many processes, or by this one where processes cannot begin with
    what it has in memory. Raises what `Timer.step` does, and `CimError` E0609 if the system ends one of them."""
    if jobs == 1 or "fork" not in multiprocessing.get_all_start_methods():
        yield map(timer.step, steps)
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), _begin, (timer,))
    try:
        yield pool.map(_cost, steps)
    except BrokenProcessPool:
        hint = "give fewer --jobs: each takes memory of its own"
        raise fail("E0609", f"one of {jobs} processes has ended", help=hint) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(timer: Timer) -> None:
    """Leave Ctrl-C to the process that asked."""
    global _timer
    _timer = timer
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _cost(step: Step) -> StepCost:
    assert _timer is not None
    return _timer.step(step)
