"""The pass manager: a compilation, the passes that work on it, one callback around each pass.

A pass is a frozen dataclass named by a verb; its fields are its options. A pipeline is a tuple of
passes. Everything that happens *between* passes (verify each, print after, stop after, time,
dump) hangs on one callback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compiler.explain import Note
    from compiler.ir.border import Border
    from compiler.ir.graph import Graph
    from compiler.ir.mapping import Mapping
    from compiler.ir.roundings import Roundings
    from compiler.optimisations import Optimisation
    from compiler.smoothing import CacheFactors
    from isa.hardware import Hardware
    from isa.program import Program


DEFAULT_CONTEXT = 512


class Smoothing(Enum):
    """Where channels are evened out before they are rounded (`--smooth`)."""

    AUTO = "auto"
    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What the person asked for: the options of `cim compile`."""

    max_context: int | None = None
    """None: DEFAULT_CONTEXT, or as many positions as the model knows if those are fewer."""
    batch: int = 1
    kv_tokens: int | None = None
    """Tokens that KV arrays have room for, of all sequences together; None: a full context for each."""
    kv: str = "auto"
    place: str = "auto"
    weights: str = "int8"
    group: int | None = None
    """Rows of weights of 4 bits that share a scale in each column, 0: all; None: `mapping.rounding.WEIGHT_GROUP`."""
    kv_bits: int = 8
    """Of keys and values."""
    smooth: Smoothing = Smoothing.AUTO
    dims: tuple[tuple[str, int], ...] = ()
    shapes_only: bool = False
    explain: bool = False
    chunk: int | None = None
    prefill: int | None = None
    """Tokens of a sequence in the prompts that mappings are compared by; None: `compiler.search.steps` says."""
    max_source: int | None = None
    """Rows of the source that cross-attention looks at; None: what the file fixes, else as many as tokens."""
    bind: str | None = None
    """An `.npz` file with the values of weights that the model file makes inputs."""
    without: frozenset[Optimisation] = frozenset()
    """Optimisations that are left out."""

    def does(self, optimisation: Optimisation) -> bool:
        """Whether an optimisation is wanted."""
        return optimisation not in self.without


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a node could not be recognised: said by the pass that tried. `node` is an ONNX node name."""

    node: str
    reason: str
    help: str | None = None


@dataclass(slots=True)
class Compilation:
    """One run of the compiler. Passes read and replace `graph`, `mapping` and `program`."""

    model: Path
    options: CompileOptions = CompileOptions()
    target: Hardware | None = None
    graph: Graph | None = None
    chip: Graph | None = None
    """The chip's part of the graph, where the host does the rest within the step (`--place`)."""
    mapping: Mapping | None = None
    program: Program | None = None
    findings: list[Finding] = field(default_factory=list)
    roundings: Roundings | None = None
    """The roundings of activations that a quantised file asks for, while they are set aside."""
    border: Border | None = None
    """What the ONNX file takes and gives."""
    padding: tuple[int, ...] = ()
    """Token ids that the model takes for padding, which must not occur: it counts positions without them."""
    operators: dict[str, str] = field(default_factory=dict)
    """The operator of each ONNX node of the file, by the node's name: for diagnostics."""
    is_trial: bool = False
    """Whether it only finds out if something fits."""
    factors: dict[int, CacheFactors] = field(default_factory=dict)
    """What keys and values were divided by, by the number of the graph's cache."""
    notes: list[Note] = field(default_factory=list)
    """What the compiler chose and why, for `--explain`."""

    def require_graph(self) -> Graph:
        """The graph. It is there once the model has been imported."""
        if self.graph is None:
            raise LookupError("no model has been imported yet: ImportModel comes first in a pipeline")
        return self.graph

    def require_chip(self) -> Graph:
        """What is placed on the chip: the whole graph, or its part."""
        return self.require_graph() if self.chip is None else self.chip

    def require_target(self) -> Hardware:
        """The target. Passes after the graph level need one."""
        if self.target is None:
            raise LookupError("this pass needs a target")
        return self.target

    def require_mapping(self) -> Mapping:
        """The mapping. It is there once blocks have been placed."""
        if self.mapping is None:
            raise LookupError("no mapping has been made yet: PlaceBlocks comes first")
        return self.mapping

    def require_program(self) -> Program:
        """The program. It is there once it has been emitted."""
        if self.program is None:
            raise LookupError("no program has been emitted yet: EmitProgram comes first")
        return self.program


@dataclass(frozen=True)
class Pass:
    """One step of the compiler."""

    @property
    def name(self) -> str:
        """The name that `--print-after` and `--stop-after` use: `fold-constants`."""
        words = "".join(f"-{c.lower()}" if c.isupper() else c for c in type(self).__name__)
        return words.lstrip("-")

    def run(self, c: Compilation) -> bool:
        """Do it. True if anything changed."""
        raise NotImplementedError


class Moment(Enum):
    """When the callback is called."""

    BEFORE = "before"
    AFTER = "after"


class StopPipelineError(Exception):
    """Raised by a callback to end the pipeline without error (`--stop-after`)."""


Callback = Callable[[Moment, Pass, Compilation], None]


def run_pipeline(passes: Sequence[Pass], c: Compilation, callback: Callback | None = None) -> Compilation:
    """Run the passes in order. The callback is called before and after each; it may raise
    `StopPipelineError`."""
    try:
        for step in passes:
            if callback is not None:
                callback(Moment.BEFORE, step, c)
            step.run(c)
            if callback is not None:
                callback(Moment.AFTER, step, c)
    except StopPipelineError:
        pass
    return c
