"""A line of the matrix: what a scope takes on a CIM system over what it takes elsewhere, and if that is enough."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.headline.baselines import AIM, IDEAL, SEED, Machine, machine, machines, published
from benchmarks.headline.cases import Cell, Scope, Way
from benchmarks.headline.demand import BYTE, HALF, demand
from benchmarks.headline.simulate import Built, Charge
from models.configs import CONFIGS


@dataclass(frozen=True, slots=True)
class Against:
    """CIM over a machine whose cache and weights have so many bytes an element."""

    machine: str
    element_bytes: int
    seconds: float
    joules: float
    latency: float
    energy: float


@dataclass(frozen=True, slots=True)
class Line:
    """A cell, scope and way. `refused` says why the system cannot hold it; `charge` and `built` are None then.

    `host` are seconds and joules of a hybrid's host in the whole step. `is_old`: of another version of the compiler.
    """

    cell: Cell
    scope: Scope
    way: Way
    refused: str = ""
    charge: Charge | None = None
    built: Built | None = None
    host: tuple[float, float] = (0.0, 0.0)
    is_old: bool = False

    @property
    def name(self) -> str:
        """`llama-2-7b 2048x1, attention, hybrid`."""
        return f"{self.cell.name}, {self.scope.value}, {self.way.value}"

    def against(self, other: Machine, element_bytes: int = HALF) -> Against:
        """The ratios to a machine. A hybrid's whole token is compared with the same host and a CPU for attention."""
        assert self.charge is not None
        is_mixed = self.scope is Scope.WHOLE and self.way is Way.HYBRID and other.is_cpu
        asked = demand(self.cell, Scope.ATTENTION if is_mixed else self.scope, element_bytes)
        host_s, host_j = self.host if is_mixed else (0.0, 0.0)
        seconds, joules = other.seconds(asked) + host_s, other.joules(asked) + host_j
        return Against(
            other.name,
            element_bytes,
            seconds,
            joules,
            self.charge.latency_s / seconds,
            self.charge.energy_j / joules,
        )

    def all_against(self) -> list[Against]:
        """The ratios to all machines, with float16 and with int8."""
        return [self.against(other, size) for other in machines() for size in (HALF, BYTE)]

    @property
    def ideal(self) -> Against:
        """The ratios to the ideal CPU, float16."""
        return self.against(machine(IDEAL))

    @property
    def verdict(self) -> str:
        """Against the ideal CPU: `aim` (what is aimed at), `pass` (what the seed reports), `fail`."""
        return self.verdict_with(HALF)

    def verdict_with(self, element_bytes: int) -> str:
        """The same, if the ideal CPU's cache and weights had so many bytes an element."""
        if self.charge is None:
            return "fail"
        found = self.against(machine(IDEAL), element_bytes)
        if published(AIM).holds(found.latency, found.energy):
            return "aim"
        return "pass" if published(SEED).holds(found.latency, found.energy) else "fail"

    @property
    def spare_s(self) -> float | None:
        """How much longer each layer may take before the line fails: seconds, below 0 if it takes too long already."""
        if self.charge is None:
            return None
        left = published(SEED).latency * self.ideal.seconds - self.charge.latency_s
        return left / CONFIGS[self.cell.model].layers

    @property
    def spare_w(self) -> float | None:
        """How many watts more each chip may draw for the whole token, all of them charged to the scope, before the line
        fails; below 0 if it spends too much already."""
        if self.charge is None or self.built is None:
            return None
        left = published(SEED).energy * self.ideal.joules - self.charge.energy_j
        return left / self.charge.token_s / self.built.chips

    @property
    def reason(self) -> str:
        """Why it fails; empty if it does not."""
        if self.charge is None:
            return f"does not fit: {self.refused}"
        wanted, found = published(SEED), self.ideal
        said = []
        if found.latency > wanted.latency:
            said.append(f"latency {found.latency:.2g} > {wanted.latency:g}: {_path(self.charge)}")
        if found.energy > wanted.energy:
            said.append(f"energy {found.energy:.3g} > {wanted.energy:g}: {_energy(self.charge)}")
        return "; ".join(said)


def _path(charge: Charge) -> str:
    """What the critical path of the step that was simulated is spent on, the first two."""
    parts = [f"{name} {100 * share:.0f} %" for name, share in list(charge.bound_by.items())[:2]]
    return f"the step's path is {', '.join(parts)}"


def _energy(charge: Charge) -> str:
    """What most of the energy is."""
    if charge.static_j < charge.energy_j / 2:
        first = sorted(charge.components.items(), key=lambda item: -item[1])[:2]
        return ", ".join(f"{name} {100 * joules / charge.energy_j:.0f} %" for name, joules in first)
    first = sorted(charge.statics.items(), key=lambda item: -item[1])[:3]
    parts = [f"{name.removeprefix('static_')} {100 * j / charge.energy_j:.0f} %" for name, j in first]
    share = 100 * charge.static_j / charge.energy_j
    return f"static {share:.0f} % ({', '.join(parts)}), over a token of {1e3 * charge.token_s:.3g} ms"
