"""The machines that CIM systems are compared with (`baselines.toml`, hosts that ship): time and energy of a demand."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.headline.demand import Demand
from isa.hardware import Host
from isa.quantities import Bandwidth, Model, Rate
from isa.target_files import host_values

FILE = Path(__file__).parent / "baselines.toml"
IDEAL, FLEXGEN, A100, H100 = "ideal", "flexgen", "a100", "h100"
SEED, POSTER, AIM = "seed", "poster", "aim"


class _Described(Model):
    """A machine as the file says it: a host that ships, and what differs."""

    description: str
    host: str
    flops: Rate | None = None
    weight_bandwidth: Bandwidth | None = None


class Published(Model):
    """Ratios that somebody has published, or that are aimed at."""

    source: str
    latency: float
    energy: float

    def holds(self, latency: float, energy: float) -> bool:
        """Whether ratios are no worse than these."""
        return latency <= self.latency and energy <= self.energy


class _File(Model):
    machines: dict[str, _Described]
    published: dict[str, Published]


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine by its roofline, the cache and the weights one after the other. Base units.

    `cache_bandwidth` and `weight_bandwidth` are sustained, `power` is the package's while it works, `memory_energy` is
    that of a byte.
    """

    name: str
    description: str
    cache_bandwidth: float
    weight_bandwidth: float
    flops: float
    power: float
    memory_energy: float

    @property
    def is_cpu(self) -> bool:
        """Whether it is a CPU, with or without a GPU that it sends weights to."""
        return self.name in (IDEAL, FLEXGEN)

    def seconds(self, demand: Demand) -> float:
        """Time of a step: of cache and of weights, each the longer of its bytes and its operations."""
        cache_s = max(demand.cache_bytes / self.cache_bandwidth, demand.cache_flops / self.flops)
        return cache_s + max(demand.weight_bytes / self.weight_bandwidth, demand.weight_flops / self.flops)

    def joules(self, demand: Demand) -> float:
        """Energy of a step: the package's power for that time, and each byte from memory."""
        moved = demand.cache_bytes + demand.weight_bytes
        return self.power * self.seconds(demand) + self.memory_energy * moved


@cache
def _file() -> _File:
    return _File.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))


@cache
def machine(name: str) -> Machine:
    """A machine of the file."""
    said = _file().machines[name]
    host = Host.model_validate(host_values(said.host))
    weights = said.weight_bandwidth or host.bandwidth
    flops = said.flops or host.flops
    return Machine(
        name,
        said.description,
        host.bandwidth.si,
        weights.si,
        flops.si,
        host.power.si,
        host.memory_energy.si,
    )


def machines() -> tuple[Machine, ...]:
    """All machines, in the file's order."""
    return tuple(machine(name) for name in _file().machines)


def published(name: str) -> Published:
    """Ratios that are known by a name."""
    return _file().published[name]
