"""The standard ONNX node tests through our backend, and the table of what came of them.

    python -m benchmarks.onnx_nodes            print the table
    python -m benchmarks.onnx_nodes --write    write docs/onnx-backend.md

Every case of `onnx.backend.test` (kind "node") is run: on the simulated chip where the compiler takes it (ideal
arithmetic, the tests' own tolerances), else on the host. Nothing is excluded; what cannot run is refused by the
backend itself, with a reason.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import onnx

from benchmarks.registry import Report, Say
from isa.diagnostics import CimError
from runtime.onnx_backend import CimBackend, Place, RefusedError

MIN_CASES = 1800
"""There are 1,884 cases in onnx 1.23. Fewer than this means that the corpus was not found, not that all is well."""

DOCUMENT = Path(__file__).parents[1] / "docs" / "onnx-backend.md"

TRANSFORMER = (
    *("Attention", "RMSNormalization", "LayerNormalization", "RotaryEmbedding", "TensorScatter", "Gelu"),
    *("Swish", "SwiGLU", "Softmax", "LogSoftmax", "MatMul", "Gemm", "Einsum", "QLinearMatMul"),
    *("MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "LinearAttention"),
    *(
        "ai.onnx.preview.FlexAttention",
        "CausalConvWithState",
        "Cast",
        "CastLike",
        "Trilu",
        "Mod",
        "Split",
        "ArgMax",
    ),
    *("Min", "Max", "Concat", "Clip", "Pow", "ReduceSum", "ReduceMax", "Dropout", "Shape", "Reshape"),
    *("Div", "Equal", "Sub", "Mul", "Flatten", "CumSum", "ReduceSumSquare", "Add", "Slice", "ReduceMean"),
    *("And", "Or", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Transpose", "Unsqueeze"),
    *("ScatterND", "ScatterElements", "TopK", "Conv", "Pad", "OneHot", "Gather", "Range", "GatherND"),
    *("GatherElements", "If", "Loop", "ConstantOfShape", "Identity", "Not", "EyeLike", "Expand"),
    *("Squeeze", "Tile", "Where", "Sqrt", "Reciprocal", "Neg", "Exp", "Log", "Tanh", "Sigmoid", "Cos"),
    *("Sin", "IsNaN", "Size", "Erf", "Relu", "Abs", "Constant", "NonZero", "HardSwish", "AveragePool"),
)
"""Operators that occur in exported transformers."""


class Verdict(Enum):
    """What came of a case."""

    CHIP = "chip"
    HOST = "host"
    REFUSED = "refused"
    FAIL = "fail"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Result:
    """One case: the operator it is about, and why it was not on the chip (or what went wrong).

    `defect`: it passed on the host because the verifier refused the compiler's program.
    """

    case: str
    op: str
    verdict: Verdict
    reason: str = ""
    defect: bool = False


def cases() -> list[Any]:
    """All node cases (`onnx.backend.test`'s `TestCase`). `RuntimeError` if there are suspiciously few."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        found: list[Any] = list(load_model_tests(kind="node"))
    if len(found) < MIN_CASES:
        raise RuntimeError(f"only {len(found)} node cases were found; at least {MIN_CASES} are expected")
    return found


def operator_of(case: Any, base: dict[str, str]) -> str:
    """The operator a case is about: of an expanded function, the function."""
    stem = str(case.name).partition("_expanded")[0]
    return base.get(stem, _kind(case.model))


def base_operators(found: Iterable[Any]) -> dict[str, str]:
    """The operator of each case that is not an expanded function, by the case's name."""
    return {str(c.name): _kind(c.model) for c in found if "_expanded" not in c.name}


def _kind(model: onnx.ModelProto) -> str:
    """The operator of the last node: cases of one node have no other."""
    node = model.graph.node[-1]
    return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)


def run_case(case: Any, op: str) -> Result:
    """Run one case. Never raises: a defect of ours is the verdict `CRASH`."""
    name = str(case.name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _run(case, name, op)
    except RefusedError as error:
        return Result(name, op, Verdict.REFUSED, error.diagnostics[0].message)
    except (CimError, AssertionError) as error:
        return Result(name, op, Verdict.FAIL, _first_line(str(error)))
    except Exception as error:  # noqa: BLE001  (a traceback is what this looks for)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return Result(
            name, op, Verdict.CRASH, f"{type(error).__name__} at {where}: {_first_line(str(error))}"
        )


def _run(case: Any, name: str, op: str) -> Result:
    from onnx.backend.test.runner import Runner, _normalize_tensor

    rep = CimBackend.prepare(case.model)
    for inputs, wanted in case.data_sets:
        outputs = rep.run([_normalize_tensor(item) for item in inputs])
        expected = [_normalize_tensor(item) for item in wanted]
        Runner.assert_similar_outputs(expected, outputs, case.rtol, case.atol)
    verdict = Verdict.CHIP if rep.place is Place.CHIP else Verdict.HOST
    return Result(name, op, verdict, rep.why, rep.defect)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:160]


def run_all(found: Sequence[Any]) -> list[Result]:
    """Run the cases, in their order."""
    base = base_operators(found)
    return [run_case(case, operator_of(case, base)) for case in found]


# ----------------------------------------------------------------------------------------------------- the table


def table(results: Sequence[Result]) -> list[str]:
    """Lines of a Markdown table: cases of each operator by verdict."""
    counts: dict[str, Counter[Verdict]] = defaultdict(Counter)
    for result in results:
        counts[result.op][result.verdict] += 1
    heads = [verdict.value for verdict in Verdict]
    lines = [f"| operator | cases | {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) + 1)]
    for op in sorted(counts, key=str.lower):
        row = counts[op]
        shown = " | ".join(str(row[v]) if row[v] else "" for v in Verdict)
        mark = "**" if op in TRANSFORMER else ""
        lines.append(f"| {mark}{op}{mark} | {row.total()} | {shown} |")
    return lines


def reasons(results: Sequence[Result], verdicts: Sequence[Verdict]) -> list[str]:
    """Lines: why cases got these verdicts, with the operators it happened to."""
    by_reason: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.verdict in verdicts:
            by_reason[result.reason].append(result)
    lines = []
    for reason, some in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        ops = ", ".join(sorted({r.op for r in some}))
        lines.append(f"- {len(some)}: {reason} ({ops})")
    return lines


def summary(results: Sequence[Result]) -> str:
    """One line: how many cases got which verdict."""
    counts = Counter(result.verdict for result in results)
    return f"{len(results)} cases: " + ", ".join(f"{counts[v]} {v.value}" for v in Verdict)


def document(results: Sequence[Result]) -> str:
    """The text of docs/onnx-backend.md."""
    relevant = [r for r in results if r.op in TRANSFORMER]
    rest = reasons(results, (Verdict.REFUSED, Verdict.FAIL, Verdict.CRASH))
    lines = [
        "# The ONNX backend",
        "",
        "Generated by `python -m benchmarks.onnx_nodes --write`; do not edit.",
        "",
        *_PROSE,
        "",
        f"With onnx {onnx.__version__}: {summary(results)}.",
        f"Of operators that occur in exported transformers (bold below), {summary(relevant)}.",
        "",
        "## Not run",
        "",
        *(rest or ["Nothing."]),
        "",
        "## On the host because of a defect",
        "",
        "The compiler takes these models, but the verifier refuses the program that it makes.",
        "",
        *(_defects(results) or ["None."]),
        "",
        "## Why transformer operators run on the host",
        "",
        *reasons([r for r in relevant if not r.defect], (Verdict.HOST,)),
        "",
        "## By operator",
        "",
        "`chip` and `host` are cases that passed there. Expanded functions count for their function.",
        "",
        *table(results),
    ]
    return "\n".join(lines) + "\n"


def _defects(results: Sequence[Result]) -> list[str]:
    counts = Counter(result.op for result in results if result.defect)
    return [f"- {op}: {count} cases" for op, count in sorted(counts.items())]


_PROSE = (
    "`runtime.onnx_backend.CimBackend` implements `onnx.backend.base.Backend`: `prepare`, `run_model`,",
    "`run_node`, `supports_device`. A model runs on the simulated chip if the compiler takes it (ideal arithmetic",
    'by default; `prepare(model, weights="int8")` for the chip\'s own), else on the host (docs/host.md). Inputs that',
    "are weights are compiled in: the chip holds weights. After `run`, `rep.place` says where the model ran and",
    "`rep.why` why not on the chip.",
    "",
    "The standard node tests of the `onnx` package are run with their own tolerances, all of them; what the backend",
    "refuses it refuses by itself, with the reasons below.",
)


def bench(options: argparse.Namespace, say: Say) -> Report:
    """`cim bench onnx-nodes`: all cases. Options: none."""
    say("running all cases")
    results = run_all(cases())
    bad = [r for r in results if r.verdict in (Verdict.FAIL, Verdict.CRASH)]
    wrong = [f"{r.verdict.value}: {r.case}: {r.reason}" for r in bad]
    records = [asdict(r) | {"verdict": r.verdict.value} for r in results]
    return Report("\n".join([*table(results), *wrong, summary(results)]), records, not bad)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything; exit code 1 if something failed or crashed."""
    parser = argparse.ArgumentParser(description="The standard ONNX node tests through our backend.")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name}")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    results = run_all(cases())
    if options.write:
        DOCUMENT.write_text(document(results), encoding="utf-8")
    else:
        print("\n".join(table(results)))
    for result in results:
        if result.verdict in (Verdict.FAIL, Verdict.CRASH):
            print(f"{result.verdict.value}: {result.case}: {result.reason}", file=sys.stderr)
    print(f"{summary(results)} in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return int(any(r.verdict in (Verdict.FAIL, Verdict.CRASH) for r in results))


__all__ = [
    "Result",
    "Verdict",
    "bench",
    "cases",
    "document",
    "main",
    "run_all",
    "run_case",
    "summary",
    "table",
]

if __name__ == "__main__":
    raise SystemExit(main())
