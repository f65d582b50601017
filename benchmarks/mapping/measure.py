"""Measuring a setup: compile it, simulate a step of each phase, hold it against its bound."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from benchmarks.mapping.cases import PREFILL, Phase, Setup, System
from benchmarks.mapping.reasons import FAR, layers_of, reason_of
from benchmarks.mapping.systems import FILL, hardware_for
from compiler.cost import Predictor
from compiler.driver import compile_model
from compiler.ir.graph import Attention, Graph, Node
from compiler.optimisations import Optimisation
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, Moment, Pass, run_pipeline
from compiler.workload import workload_of
from isa.diagnostics import CimError
from isa.hardware import Hardware
from isa.instructions import Wrowc, Wscale
from isa.interface import KvPolicy
from isa.program import Program, Segment, segments_of
from isa.turns import in_turns, turns_of
from isa.workload import Workload
from runtime.bounds import bound_of
from runtime.energy import energy
from runtime.fast import timer_of
from runtime.hostwork import with_hosts

NO_CACHE = "none"
"""The policy of a program without caches."""

TOO_FEW = "E0303"
"""The refusal that more chips help."""

FILLS = (FILL, FILL / 1.5, FILL / 2, FILL / 3)
"""How full a system is made: the fullest on which the compiler keeps weights, keys and values in arrays."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case: cycles, bound and what binds it, or the code with which the compiler refused.

    `predicted` are the cycles that the compiler's cost model says (0: none where the host works within the step).
    `fill` is the share of macros for which the system was made, `streams` whether weights are loaded in every step.
    `layers` are the cycles without the host link (`reasons.layers_of`), `far` is why they are far from the bound.
    """

    case: str
    model: str
    context: int
    batch: int
    system: str
    phase: str
    measured: int = 0
    bound: int = 0
    binding: str = ""
    spent_on: str = ""
    policy: str = ""
    energy_j: float = 0.0
    tokens: int = 0
    latency_s: float = 0.0
    chips: int = 0
    tiles: int = 0
    fill: float = 0.0
    compile_s: float = 0.0
    simulate_s: float = 0.0
    predicted: int = 0
    predict_s: float = 0.0
    streams: bool = False
    layers: int = 0
    layers_bound: int = 0
    far: str = ""
    refused: str = ""
    reason: str = ""

    @property
    def ratio(self) -> float:
        """Measured over bound; 0 if there is none."""
        return self.measured / self.bound if self.bound else 0.0

    @property
    def layers_ratio(self) -> float:
        """The layers' own part over its bound; 0 where the host works within the step."""
        return self.layers / self.layers_bound if self.layers_bound else 0.0

    @property
    def is_resident(self) -> bool:
        """Whether weights, keys and values stay in the arrays, all of them on the chips."""
        is_kept = self.policy in (KvPolicy.RESIDENT.value, NO_CACHE) and not self.streams
        return not self.refused and is_kept and self.system != System.HYBRID.value

    @property
    def accuracy(self) -> float:
        """What the compiler predicts over what is measured; 0 without a prediction."""
        return self.predicted / self.measured if self.measured else 0.0

    @property
    def energy_per_token_j(self) -> float:
        """Joules a token."""
        return self.energy_j / self.tokens if self.tokens else 0.0


@lru_cache(maxsize=16)
def work_of(model: Path) -> Workload:
    """The work of a model file."""
    compilation = run_pipeline(GRAPH_PIPELINE, Compilation(model, CompileOptions(shapes_only=True)))
    return workload_of(compilation.require_graph())


def steps_of(
    setup: Setup, phase: Phase, chunk: int, sequences: int = 0, in_turn: int = 1
) -> tuple[Segment, ...]:
    """The segments of a phase's step: every sequence takes part, or as many `sequences`, `in_turn` at a time."""
    if setup.model.encoder:
        tokens, position = setup.context, 0
    else:
        tokens = 1 if phase is Phase.DECODE else PREFILL
        position = setup.length - tokens
    last_only = not setup.model.encoder
    each = [
        segments_of(tokens, position, chunk, last_only=last_only, sequence=sequence)
        for sequence in range(sequences or setup.batch)
    ]
    return tuple(in_turns(each, in_turn))


def measure(
    setup: Setup,
    model: Path,
    without: frozenset[Optimisation] = frozenset(),
    fills: Sequence[float] = FILLS,
    predicts: bool = True,
) -> list[Result]:
    """The results of a setup's phases, on the first of the systems (`fills`) that has enough chips. A refusal is a
    result.

    `predicts`: with what the compiler predicts, of the step and of what would help.
    """
    blank = [_blank(setup, phase) for phase in setup.phases]
    work, refusal = work_of(model), None
    for fill in fills:
        hardware = hardware_for(setup.system, work, setup.context, setup.batch, fill)
        began = time.perf_counter()
        try:
            program = compiled(setup, model, hardware, without)
        except CimError as error:
            refusal = error
            if setup.system is System.SMALL or error.diagnostics[0].code != TOO_FEW:
                break
        else:
            if fill != fills[-1] and wants_chips(setup, program):
                continue
            took = time.perf_counter() - began
            return [
                replace(_measured(setup, program, result, predicts), fill=fill, compile_s=took)
                for result in blank
            ]
    assert refusal is not None
    first = refusal.diagnostics[0]
    return [replace(result, refused=first.code, reason=first.message) for result in blank]


def wants_chips(setup: Setup, program: Program) -> bool:
    """Whether something moves from memory in every step on a system that is to have enough chips for all."""
    is_kept = policy_of(program) in (KvPolicy.RESIDENT.value, NO_CACHE) and not streams_weights(program)
    return setup.kv == "auto" and setup.system in (System.DCIM22, System.DENSE) and not is_kept


def _blank(setup: Setup, phase: Phase) -> Result:
    name = f"{setup.name}, {phase.value}"
    return Result(name, setup.model.name, setup.context, setup.batch, setup.system.value, phase.value)


def compiled(
    setup: Setup, model: Path, hardware: Hardware, without: frozenset[Optimisation] = frozenset()
) -> Program:
    """The program of a setup on some hardware. Raises `CimError` if it does not fit."""
    options = CompileOptions(
        max_context=setup.context,
        batch=setup.batch,
        kv=setup.kv,
        kv_tokens=setup.kv_tokens,
        place="attention" if setup.system is System.HYBRID else "all",
        shapes_only=True,
        without=without,
    )

    def narrow(moment: Moment, step: Pass, c: Compilation) -> None:
        if setup.window and moment is Moment.AFTER and step is GRAPH_PIPELINE[-1]:
            c.graph = windowed(c.require_graph(), setup.window)

    return compile_model(model, options, hardware, narrow).require_program()


def windowed(graph: Graph, window: int) -> Graph:
    """The graph with attention that sees so many tokens, the newest, and none before them."""

    def narrowed(node: Node) -> Node:
        if not isinstance(node.op, Attention) or not node.op.causal:
            return node
        return replace(node, op=replace(node.op, window=window))

    return replace(graph, nodes=tuple(narrowed(node) for node in graph.nodes))


def _measured(setup: Setup, program: Program, blank: Result, predicts: bool) -> Result:
    began = time.perf_counter()
    phase, limits = Phase(blank.phase), program.step_limits
    whole = steps_of(setup, phase, limits.chunk)
    segments = steps_of(setup, phase, limits.chunk, limits.sequences, turns_of(program))
    turns = setup.batch // limits.sequences  # an encoder takes a sequence a step
    cost = with_hosts(program, segments, timer_of(program, [segments]).step(segments))
    simulated = time.perf_counter()
    predictor = Predictor(program)
    is_told = predicts and predictor.is_possible
    predicted = predictor.step(segments).cycles * turns if is_told else 0
    least, target = bound_of(program, whole), program.target
    is_far = predicts and least is not None and cost.cycles * turns > FAR * least.cycles
    on_chip = setup.system is not System.HYBRID
    layers, layers_bound = layers_of(program, segments, cost) if on_chip else (0, 0)
    return replace(
        blank,
        streams=streams_weights(program),
        layers=layers,
        layers_bound=layers_bound,
        far=reason_of(program, segments, cost) if is_far else "",
        predicted=predicted,
        predict_s=time.perf_counter() - simulated,
        measured=cost.cycles * turns,
        bound=least.cycles if least is not None else 0,
        binding=least.binding.value if least is not None else "",
        spent_on=cost.bound_by.value,
        policy=policy_of(program),
        energy_j=energy(target, program, [cost] * turns).total,
        tokens=cost.tokens * turns,
        latency_s=cost.cycles * turns / target.clock.si,
        chips=int(target.system.chips_x.value * target.system.chips_y.value),
        tiles=program.tile_count,
        simulate_s=simulated - began,
    )


def policy_of(program: Program) -> str:
    """Where keys and values lie: the policies of the program's caches, or `none`."""
    return "+".join(sorted({cache.policy.value for cache in program.caches})) or NO_CACHE


def streams_weights(program: Program) -> bool:
    """Whether the program writes weights into arrays."""
    return any(isinstance(inst, Wrowc | Wscale) for role in program.roles for inst in role.code)
