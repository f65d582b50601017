"""What becomes of each node of a model: what `cim ops MODEL.onnx` prints.

The one module of this room that runs passes; the rest of it is what passes build on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from compiler.frontend.importer import import_model
from compiler.ir.graph import Graph, Node, Onnx, op_name
from compiler.ops.registry import Fate, entry_of
from compiler.passes import GRAPH_PIPELINE
from compiler.passes.legalise import Legalise, Refusal, refused
from compiler.pipeline import Compilation, CompileOptions, run_pipeline
from isa.program import Moment


class Verdict(Enum):
    """What becomes of a node."""

    CHIP = "on chip"
    LAYOUT = "layout"
    FOLDED = "folded"
    HOST = "host"
    REFUSED = "refused"
    STUCK = "stuck"
    """It could be compiled, but not beside a node that is refused."""


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """One ONNX node: `reason` says what it becomes a part of, or why it cannot; `help` what to do."""

    node: str
    op: str
    verdict: Verdict
    reason: str
    help: str | None = None


def explain_model(
    path: str | Path, *, shapes_only: bool = False, dims: Mapping[str, int] | None = None
) -> list[NodeVerdict]:
    """The verdict on every node of the file, in its order. Raises `CimError` if it cannot be read."""
    raw = import_model(path, shapes_only=shapes_only, dims=dims, keep_dead=True)
    c = Compilation(Path(path), CompileOptions(shapes_only=shapes_only, dims=tuple((dims or {}).items())))
    run_pipeline([p for p in GRAPH_PIPELINE if not isinstance(p, Legalise)], c)
    final = c.require_graph()
    refusals = {r.place.node: r for r in refused(final, tuple(c.findings))}
    parts, left = _parts(final), {s for n in final.nodes if isinstance(n.op, Onnx) for s in n.sources}
    hosted = {source: part.moment for part in reversed(final.hosts) for source in part.sources}
    why = {finding.node: finding.reason for finding in c.findings}
    found = []
    for node in raw.nodes:
        name = node.sources[0]
        if name in hosted and name not in parts and name not in refusals:
            found.append(_hosted(node, hosted[name], why.get(name)))
        else:
            found.append(_verdict(node, parts, left, refusals.get(name)))
    return found


def _hosted(node: Node, moment: Moment, reason: str | None) -> NodeVerdict:
    """The verdict on a node of a host partition, with the reason if it is the cause."""
    assert isinstance(node.op, Onnx)
    where = "in front of the chip's part" if moment is Moment.BEFORE else "behind the chip's part"
    entry = entry_of(node.op)
    why = entry.note if entry is not None and entry.fate is Fate.HOST else reason
    note = f"{where}: {why or 'goes with its neighbours'}"
    return NodeVerdict(node.sources[0], op_name(node.op), Verdict.HOST, note)


def _parts(graph: Graph) -> dict[str, Node]:
    """The canonical node that each ONNX node became a part of."""
    found: dict[str, Node] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Onnx):
            for source in node.sources:
                found.setdefault(source, node)
    return found


def _verdict(node: Node, parts: dict[str, Node], left: set[str], refusal: Refusal | None) -> NodeVerdict:
    assert isinstance(node.op, Onnx)
    name, op = node.sources[0], op_name(node.op)
    if refusal is not None:
        return NodeVerdict(name, op, Verdict.REFUSED, refusal.message, refusal.help)
    if name in parts:
        part = parts[name]
        return NodeVerdict(name, op, Verdict.CHIP, f"part of {op_name(part.op)} {part.output.name}")
    if name in left:
        return NodeVerdict(name, op, Verdict.STUCK, "its neighbours are refused")
    entry = entry_of(node.op)
    if entry is not None and entry.fate is Fate.LAYOUT:
        return NodeVerdict(name, op, Verdict.LAYOUT, "shapes, or how neighbours read and write")
    return NodeVerdict(name, op, Verdict.FOLDED, "constants, shapes, masks and positions")
