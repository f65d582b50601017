"""Steps that several processes simulate side by side."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace

import pytest

from isa.diagnostics import CimError, NamedPlace, fail
from isa.events import Sink
from isa.program import Segment
from runtime.timing.result import StepCost, merged
from runtime.workers import costs_of

STEPS = [(Segment(1, position, 1),) for position in range(40)]
BAD = 17


class Marker:
    """A timer whose costs say at which position, and in which process; at some positions it does something else."""

    def __init__(self, at_bad: str = "") -> None:
        self.at_bad = at_bad

    def step(self, segments: Sequence[Segment], sink: Sink | None = None) -> StepCost:
        """See `Timer`."""
        position = segments[0].position
        if self.at_bad and position == BAD:
            if self.at_bad == "end":
                os.kill(os.getpid(), signal.SIGKILL)
            raise fail("E0604", "a trap", NamedPlace("step"), "none")
        return replace(merged([]), cycles=position, messages=os.getpid())


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_costs_come_in_order_from_so_many_processes(jobs: int) -> None:
    with costs_of(Marker(), STEPS, jobs) as costs:
        found = list(costs)
    assert [cost.cycles for cost in found] == list(range(40))
    processes = {cost.messages for cost in found}
    assert len(processes) <= jobs
    assert (os.getpid() in processes) == (jobs == 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_goes_wrong_is_said_as_alone(jobs: int) -> None:
    with pytest.raises(CimError) as error, costs_of(Marker("trap"), STEPS, jobs) as costs:
        list(costs)
    (diagnostic,) = error.value.diagnostics
    assert (diagnostic.code, diagnostic.message, diagnostic.place) == ("E0604", "a trap", NamedPlace("step"))


def test_a_process_that_the_system_ends_is_said() -> None:
    said = pytest.raises(CimError, match=r"E0609.*one of 2 processes")
    with said as error, costs_of(Marker("end"), STEPS, 2) as costs:
        list(costs)
    assert "fewer --jobs" in str(error.value)


def test_one_may_leave_off_after_any() -> None:
    with costs_of(Marker(), STEPS, 2) as costs:
        assert next(costs).cycles == 0
