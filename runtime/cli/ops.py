"""Which ONNX operators compile; with a model: what becomes of each of its nodes, and why."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from .console import Console, columns
from .files import as_file
from .options import binding

if TYPE_CHECKING:
    from compiler.ops.explain import NodeVerdict
    from compiler.ops.registry import OpEntry


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim ops [MODEL.onnx]`"""
    parser.add_argument("model", nargs="?", metavar="MODEL.onnx", help="an ONNX file (`-`: standard input)")
    parser.add_argument(
        "--dim",
        type=binding,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="bind a dynamic axis (repeatable)",
    )
    parser.add_argument("--shapes-only", action="store_true", help="the weights need not be there")


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the support table, or the verdicts on a model's nodes (exit code 1 if any is refused)."""
    if options.model is None:
        from compiler.ops.registry import support_table

        entries = support_table()
        console.result(columns(HEADS, [row_of(entry) for entry in entries]))
        console.data([_record(entry) for entry in entries])
        return 0
    from compiler.ops.explain import Verdict, explain_model

    with as_file(options.model, ".onnx") as model:
        verdicts = explain_model(model, shapes_only=options.shapes_only, dims=dict(options.dim))
    console.result(_verdicts(verdicts))
    console.data([_verdict_record(verdict) for verdict in verdicts])
    return 1 if any(v.verdict is Verdict.REFUSED for v in verdicts) else 0


HEADS = ("operator", "what becomes of it", "as", "forms, limits, reasons")


def _name(entry: OpEntry) -> str:
    return f"{entry.domain}.{entry.kind}" if entry.domain else entry.kind


def row_of(entry: OpEntry) -> tuple[str, str, str, str]:
    """One line of the support table."""
    note = entry.note + (f" ({entry.help})" if entry.help else "")
    return _name(entry), entry.fate.value, ", ".join(entry.becomes), note


def _record(entry: OpEntry) -> dict[str, object]:
    return {
        "operator": _name(entry),
        "fate": entry.fate.value,
        "becomes": list(entry.becomes),
        "note": entry.note,
        "help": entry.help,
    }


def _verdict_record(verdict: NodeVerdict) -> dict[str, object]:
    return {
        "node": verdict.node,
        "operator": verdict.op,
        "verdict": verdict.verdict.value,
        "reason": verdict.reason,
        "help": verdict.help,
    }


def _verdicts(verdicts: list[NodeVerdict]) -> str:
    rows = [(v.node, v.op, v.verdict.value, v.reason + (f"; {v.help}" if v.help else "")) for v in verdicts]
    counts = Counter(v.verdict.value for v in verdicts)
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return columns(("node", "operator", "verdict", "why"), rows) + f"\n\n{len(verdicts)} nodes: {total}"
