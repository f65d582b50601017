"""Compare a model's values on the simulated chip with ONNX Runtime's, in float32, on the same text.

Teacher-forced: both see the same tokens and say after each what comes next. Other models than decoders of tokens
(encoders, encoder-decoders, images) get random inputs, and all outputs are compared. Exit code 3 when they differ by
more than allowed. With --every-layer each operator's values are compared too, with the reference meaning of the graph.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from isa.diagnostics import NamedPlace, fail
from runtime.arguments import fraction, positive

from .analog import add_analog_options, analog_options
from .building import build
from .console import Console, columns
from .files import existing
from .options import add_compile_options, add_engine_option, flag
from .paths import names_files

if TYPE_CHECKING:
    from compiler.pipeline import Compilation
    from runtime.analog.options import AnalogOptions
    from runtime.check.compare import Comparison, Window
    from runtime.check.layers import LayerError
    from runtime.session import Session

OK, DIFFERENT = 0, 3
EXACT, NEAR = 1e-4, 0.06  # relative errors of outputs: of ideal arithmetic, and of int8
_OF_TEXT = (
    "every_layer",
    "text",
    "prompts",
    "prompt_tokens",
    "tokens",
    "min_agreement",
    "max_perplexity_change",
)  # what is of comparisons on a text alone
FAR_OFF = 0.1  # relative; int8 noise stays below it, a wrong weight or a wrong route does not


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim check MODEL.onnx [--every-layer] ...`"""
    parser.add_argument("model", metavar="MODEL.onnx", help="an ONNX model with its weights")
    parser.add_argument("--every-layer", action="store_true", help="name the operator that is furthest off")
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="text to compare on (default: held-out text that ships)"
    )
    parser.add_argument(
        "--prompts", type=positive, default=4, metavar="N", help="windows of the text (default: %(default)s)"
    )
    parser.add_argument(
        "--prompt-tokens", type=positive, default=64, metavar="N", help="given in each (default: %(default)s)"
    )
    parser.add_argument(
        "--tokens", type=positive, default=64, metavar="N", help="predicted in each (default: %(default)s)"
    )
    parser.add_argument(
        "--min-agreement",
        type=fraction,
        default=0.97,
        metavar="F",
        help="share of equal next tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--max-perplexity-change",
        type=fraction,
        default=0.01,
        metavar="F",
        help="relative (default: %(default)s)",
    )
    parser.add_argument(
        "--max-error",
        type=fraction,
        metavar="F",
        help="of outputs on random inputs, relative (default: 0.06; with --weights float32 1e-4)",
    )
    add_engine_option(parser)
    add_analog_options(parser)
    add_compile_options(parser)
    names_files(parser, reads=("model", "text", "bind", "target"))
    parser.set_defaults(default_of=parser.get_default)


def run(options: argparse.Namespace, console: Console) -> int:
    """Compile, compare, judge."""
    from runtime.session import Session
    from runtime.values import EngineKind

    model = existing(options.model)
    compilation = build(model, options, console)
    analog = analog_options(options, compilation.require_program(), console)
    if not _continues_text(compilation):
        return _check_outputs(model, compilation, analog, options, console)
    session = Session(compilation.require_program(), engine=EngineKind(options.engine), analog=analog)
    return _check_text(model, compilation, session, options, console)


def _continues_text(compilation: Compilation) -> bool:
    """Whether the model is a decoder of tokens alone: no token sees later ones, or another sequence."""
    from compiler.ir.graph import Attention
    from runtime.session import is_decoder

    graph, program = compilation.require_graph(), compilation.require_program()
    attentions = [node.op for node in graph.nodes if isinstance(node.op, Attention)]
    alone = all(op.causal and not op.cross for op in attentions)
    return alone and is_decoder(program)


def _check_outputs(
    model: Path,
    compilation: Compilation,
    analog: AnalogOptions,
    options: argparse.Namespace,
    console: Console,
) -> int:
    """All outputs on random inputs."""
    from runtime.analog.options import applied
    from runtime.check.oracle import Oracle
    from runtime.check.values import output_errors, random_inputs
    from runtime.values import EngineKind

    given = [flag(name) for name in _OF_TEXT if getattr(options, name) != options.default_of(name)]
    if given:
        message = (
            f"it is compared on random inputs; {', '.join(given)} can be had of decoders of tokens alone"
        )
        raise fail("E0601", message, NamedPlace(options.model), f"leave out {', '.join(given)}")
    with console.activity("comparing"):
        program = compilation.require_program()
        engine = EngineKind(options.engine)
        errors = output_errors(program, Oracle(model), random_inputs(compilation), engine, analog)
    allowed = options.max_error
    if allowed is None:
        allowed = EXACT if options.weights == "float32" else NEAR
    passed = all(error.relative_error <= allowed for error in errors)
    rows = [
        (e.name, " x ".join(map(str, e.shape)), f"{e.relative_error:.2e}", f"{e.largest_error:.2e}")
        for e in errors
    ]
    console.result(
        columns(("output", "shape", "relative error", "largest"), rows, right=(2, 3))
        + f"\nrandom inputs; relative error at most {allowed:g}: "
        + ("passed" if passed else "failed: the results differ")
    )
    found = {"outputs": [asdict(error) for error in errors], "max_error": allowed, "passed": passed}
    console.data(found | {"analog": [asdict(kind) for kind in applied(program, analog)]})
    return OK if passed else DIFFERENT


def _check_text(
    model: Path,
    compilation: Compilation,
    session: Session,
    options: argparse.Namespace,
    console: Console,
) -> int:
    """What comes next in a text."""
    from runtime.analog.options import applied
    from runtime.check.compare import compare
    from runtime.check.oracle import Oracle

    if options.max_error is not None:
        message = "a decoder of tokens is judged by how it continues a text, not by the errors of its outputs"
        hint = "leave it out, or give --min-agreement and --max-perplexity-change"
        raise fail("E0601", message, NamedPlace("--max-error"), hint)
    windows, what = _windows(options, session.vocabulary)
    with console.activity("comparing") as activity:

        def note(number: int) -> None:
            activity.note = f"prompt {number + 1} of {len(windows)}"

        found = compare(session, Oracle(model), windows, note)
    layers = _layers(compilation, windows[0], session.analog, console) if options.every_layer else ()
    passed = (
        found.agreement >= options.min_agreement
        and abs(found.perplexity_change) <= options.max_perplexity_change
    )
    console.result(_text(found, what, layers, options, passed))
    kinds = applied(session.program, session.analog)
    console.data(
        asdict(found)
        | {"text": what, "passed": passed, "layers": [asdict(layer) for layer in layers]}
        | {"analog": [asdict(kind) for kind in kinds]}
    )
    return OK if passed else DIFFERENT


def _windows(options: argparse.Namespace, vocabulary: int) -> tuple[tuple[Window, ...], str]:
    """What to compare on, and what to call it."""
    import models
    from runtime.check.compare import BYTES, text_ids, windows_of

    if options.text is not None and vocabulary != BYTES:
        message = f"its vocabulary is {vocabulary:,}: tokens are not bytes, and no tokenizer is here"
        raise fail(
            "E0601", message, NamedPlace(options.model), "leave out --text: random tokens are compared"
        )
    path = options.text or models.path(models.HELD_OUT)
    ids, what = text_ids(existing(str(path)).read_bytes(), vocabulary)
    size = options.prompt_tokens + options.tokens
    if options.max_context is not None and size - 1 > options.max_context:
        message = (
            f"{options.prompt_tokens} + {options.tokens} tokens exceed --max-context {options.max_context}"
        )
        raise fail("E0602", message, NamedPlace(options.model), f"--max-context {size}, or fewer tokens")
    windows = windows_of(ids, options.prompts, options.prompt_tokens, options.tokens)
    return windows, f"{path.name}, {len(ids):,} bytes" if vocabulary == BYTES else what


def _layers(
    compilation: Compilation, window: Window, analog: AnalogOptions, console: Console
) -> tuple[LayerError, ...]:
    from runtime.check.layers import layer_errors

    with console.activity("comparing every layer"):
        return layer_errors(compilation, window.inputs, analog)


def _text(
    found: Comparison, what: str, layers: tuple[LayerError, ...], options: argparse.Namespace, passed: bool
) -> str:
    lines = [
        f"text         {what}: {found.windows} prompts, {found.tokens:,} tokens predicted",
        f"agreement    {100 * found.agreement:.2f} % of next tokens equal ONNX Runtime's "
        f"(at least {100 * options.min_agreement:g} %)",
        f"perplexity   {found.perplexity:.4f}, ONNX Runtime's {found.reference_perplexity:.4f}: "
        f"{100 * found.perplexity_change:+.2f} +- {100 * found.change_error:.2f} % "
        f"(at most {100 * options.max_perplexity_change:g} %)",
        f"logits       differ by at most {found.largest_difference:.3g} standard deviations",
        "passed" if passed else "failed: the results differ",
    ]
    return "\n".join([*_layer_lines(layers), *lines])


def _layer_lines(layers: tuple[LayerError, ...]) -> list[str]:
    """The table of operators, and which is worst."""
    if not layers:
        return []
    worst = max(layers, key=lambda layer: layer.relative_error)
    rows = [
        (x.node, x.op, f"{x.relative_error:.2e}", f"{x.largest_error:.2e}", "<- worst" if x is worst else "")
        for x in layers
    ]
    heads = ("operator", "kind", "relative error", "largest", "")
    lines = [
        columns(heads, rows, right=(2, 3)),
        "",
        f"worst layer  {worst.node} ({worst.op}): relative error {worst.relative_error:.2e} against float32",
    ]
    first = next((layer for layer in layers if layer.relative_error > FAR_OFF), None)
    if first is not None:
        lines.append(f"first off    {first.node} ({first.op}): the first with more than {100 * FAR_OFF:g} %")
    return lines
