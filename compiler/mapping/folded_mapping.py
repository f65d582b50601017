"""A folded mapping put together, and the choice between it and one tile for each piece of weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from compiler.explain import Heading, Note
from compiler.ir.graph import Attention, Graph, Linear, Node
from compiler.ir.mapping import Mapping
from compiler.optimisations import Optimisation
from isa.diagnostics import CimError, Diagnostic, NamedPlace
from isa.hardware import Hardware
from isa.interface import KvPolicy
from isa.program import Limits

from .angles import Angles
from .builder import MappingBuilder
from .cutting import cut
from .fold_sizes import choose_sizes
from .folded import Job, problem, shapes_of
from .folded_core import Core
from .folded_front import Front
from .folded_hub import Hub
from .folding import Fold, fold
from .parts import Geometry, PartBuilder
from .problem import Problem
from .weights import Weights

if TYPE_CHECKING:
    from .mapper import MapOptions

TOO_SMALL = ("E0302", "E0303", "E0304", "E0309")
"""Refusals that streaming may lift: an array too large for a tile, too few tiles, a KV cache too large for a tile,
tables too large for a memory."""


def weight_cells(graph: Graph, without: tuple[Node, ...] = ()) -> int:
    """Elements of all linear layers' weights but those `without`."""
    linears = (n for n in graph.nodes if isinstance(n.op, Linear) and n not in without)
    return sum(graph.constants[n.inputs[1]].count for n in linears)


def row_cells(graph: Graph, limits: Limits, tokens: int = 0) -> int:
    """Elements of the rows of keys and values of all attentions: of each sequence its longest context, or a window of
    it; of so many `tokens` of all sequences together, if they share arrays."""
    need = 0
    for op in (node.op for node in graph.nodes if isinstance(node.op, Attention)):
        longest = limits.max_source if op.cross else limits.max_context
        rows = min(op.window or longest, longest) * limits.sequences
        rows = rows if op.cross or not tokens else min(rows, tokens)
        need += op.kv_heads * (op.head_dim + op.v_head_dim) * rows
    return need


def cells(hardware: Hardware) -> int:
    """Cells for weights of a target."""
    return hardware.tiles * hardware.weight_cells


def must_stream(graph: Graph, hardware: Hardware) -> bool:
    """Whether the weights have more elements than the target has cells for them."""
    return weight_cells(graph) > cells(hardware)


class StreamingError(Exception):
    """Weights cannot be streamed; the text says why."""


def map_streamed(task: Problem, options: MapOptions, notes: list[Note] | None = None) -> Mapping:
    """Place a graph whose weights do not stay in the arrays. Raises `StreamingError` if its structure has no fold, and
    `CimError` E0302 if the target's DRAM is too small."""
    graph, hardware, limits, arithmetic = task.graph, task.hardware, task.limits, task.arithmetic
    builder = MappingBuilder(hardware, arithmetic)
    weights = Weights(graph, builder, options.weight_bits, options.weight_group)
    geometry = Geometry(hardware, limits, options.block, options.without, options.kv, options.kv_bits)
    parts = PartBuilder(graph, builder, weights, geometry)
    parts.angles = Angles(builder, keeps=False, most=1)  # buffers are for weights on their way
    folded = fold(graph, cut(graph))
    why = _choices_problem(options) or problem(graph, parts, folded)
    if why or folded is None:
        raise StreamingError(why)
    sizes = choose_sizes(shapes_of(parts, folded, _width(graph, folded)), geometry, arithmetic)
    if sizes is None:
        raise StreamingError("no cut of its layers fits the target's tiles, buffers and ports")
    job = Job(parts, folded, sizes)
    hub = Hub(job)
    attention = [s for s in job.sections if s[0].lanes]
    cores = [Core(job, hub, number, sections) for number, sections in enumerate(attention)]
    front = Front(job, hub, cores)
    hub.build()
    front.build()
    for core in cores:
        core.build()
    if notes is not None:
        notes += [*_notes(job), *weights.summary()]
    chosen = replace(limits, segments=max(sizes.rows, 1))
    return builder.finish(graph.name, chosen, tries=options.does(Optimisation.PLACEMENT))


def _choices_problem(options: MapOptions) -> str:
    """Which choice of caches a folded mapping does not have; "" if none."""
    if options.kv_tokens:
        return "--kv-tokens shares KV arrays in pages"
    return "--kv tiered keeps rows of one layer" if options.kv.policy is KvPolicy.TIERED else ""


def _width(graph: Graph, folded: Fold) -> int:
    """Columns of the hub's rows: those that the layers after the loop's first value take."""
    made = {item.output for items in folded.body for item in items} | set(folded.carry)
    linear = next(n for n in graph.nodes if isinstance(n.op, Linear) and n.inputs[0] in made)
    return int(graph.constants[linear.inputs[1]].shape[0])


def _notes(job: Job) -> list[Note]:
    """What was chosen and why, with the numbers."""
    sizes, hardware, fold_ = job.sizes, job.hardware, job.fold
    rate = hardware.dram.bandwidth.si * hardware.dram.channels.value
    names = [f"{sizes.hub} hub tiles of {sizes.width} columns", f"{sizes.front} front tiles"]
    if sizes.cores:
        names.append(f"{sizes.cores} core tiles for each attention section")
    said = [
        f"weights are streamed: the layers have {weight_cells(job.parts.graph):,} weights, the target "
        f"{cells(hardware):,} cells for weights; a step loads {sizes.bytes:,} bytes from DRAM, "
        f"{1e3 * sizes.bytes / rate:,.2f} ms at {rate / 1e9:,.1f} GB/s",
        f"{fold_.count} times the same {len(fold_.body)} operators and sections, in a loop: {', '.join(names)}; "
        f"{sizes.rounds:,} rounds a step, up to {sizes.rows:,} rows",
    ]
    return [Note(Heading.CHOICES, text) for text in said]


def with_reason(error: CimError, reason: str) -> CimError:
    """A refusal, with why streaming the weights does not help."""
    first, *others = error.diagnostics
    note = f"weights were not streamed: {reason}"
    return CimError([replace(first, notes=(*first.notes, note)), *others])


def refusal(graph: Graph, hardware: Hardware, reason: str) -> CimError:
    """The refusal (E0303) of weights that neither fit nor can be streamed."""
    per_chip = cells(hardware) // max(int(hardware.system.chips_x.value * hardware.system.chips_y.value), 1)
    need = weight_cells(graph)
    return CimError(
        [
            Diagnostic(
                "E0303",
                f"the model has {need:,} weights, target {hardware.name} has {cells(hardware):,} cells for weights, "
                f"and its weights cannot be streamed: {reason}",
                NamedPlace(graph.name),
                help=f"a system of {-(-need // per_chip):,} or more of these chips (chips_x, chips_y in the target "
                "file)",
            )
        ]
    )
