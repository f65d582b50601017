"""Continue a prompt, token by token, on the simulated chip; then say what it took.

The text goes to standard output as it is generated, the report to standard error. A model whose tokens are bytes takes
its prompt as text; for others give token ids.
"""

from __future__ import annotations

import argparse
import codecs
import time
from typing import TYPE_CHECKING

from isa.diagnostics import NamedPlace, fail

from .console import Console
from .costing import Costing, add_cost_options
from .files import read_arrays
from .loading import engine_of, program_or_model
from .options import add_compile_options, fraction, natural, positive

if TYPE_CHECKING:
    from runtime.session import Generation, Session
    from runtime.sinks.statistics import Statistics

BYTES = 256  # the vocabulary of a model whose tokens are bytes


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim generate MODEL.onnx|OUT.cim --prompt TEXT ...`"""
    parser.add_argument("model", metavar="MODEL.onnx|OUT.cim", help="a model (compiled first) or a program")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", metavar="TEXT", help="text to continue")
    prompt.add_argument("--prompt-ids", type=_ids, metavar="1,2,3", help="token ids to continue")
    parser.add_argument(
        "--source",
        metavar="FILE.npz",
        help="of an encoder-decoder: what the encoder made, under the names of the decoder's inputs",
    )
    parser.add_argument(
        "--max-new-tokens", type=positive, default=64, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--temperature", type=fraction, default=0.0, metavar="T", help="0 takes the likeliest (default)"
    )
    parser.add_argument(
        "--seed", type=natural, default=0, metavar="S", help="of the sampling (default: %(default)s)"
    )
    parser.add_argument(
        "--engine", choices=("fast", "reference"), default="reference", help="default: %(default)s"
    )
    parser.add_argument("--no-timing", action="store_true", help="only values: no cycles and joules")
    add_cost_options(parser)
    add_compile_options(parser)
    parser.set_defaults(usage_error=parser.error)


def _ids(text: str) -> tuple[int, ...]:
    return tuple(natural(word) for word in text.replace(",", " ").split())


def run(options: argparse.Namespace, console: Console) -> int:
    """Generate; report."""
    from runtime.session import Session

    if options.no_timing and (options.stats or options.trace):
        options.usage_error("--stats and --trace need the timing that --no-timing leaves out")
    program = program_or_model(options.model, options, console)
    session = Session(program, engine=engine_of(options.engine))
    if options.source:
        session.set_source_inputs(read_arrays(options.source))
    prompt = prompt_ids(options, session.vocabulary)
    began = time.perf_counter()
    generation = _generate(session, prompt, options, console)
    seconds = time.perf_counter() - began
    stats = None
    if not options.no_timing:
        costing = Costing(program, options, console)
        costs = costing.steps(generation.steps)
        stats = costing.statistics(costs, options.engine, time.perf_counter() - began)
        _say_costs(stats, console)
    console.say(
        f"simulated in {seconds:.1f} s of values" + (f", {stats.wall_s:.1f} s in all" if stats else "")
    )
    console.data(_record(generation, session.vocabulary, stats))
    return 0


def prompt_ids(options: argparse.Namespace, vocabulary: int) -> tuple[int, ...]:
    """The prompt as token ids. Raises `CimError` E0601 where text cannot be told apart into tokens."""
    if options.prompt_ids is not None:
        return tuple(options.prompt_ids)
    if vocabulary != BYTES:
        message = f"the model has a vocabulary of {vocabulary:,}: its tokens are not bytes, and no tokenizer is here"
        raise fail("E0601", message, NamedPlace(options.model), "give token ids: --prompt-ids 1,2,3")
    return tuple(options.prompt.encode("utf-8"))


def _generate(
    session: Session, prompt: tuple[int, ...], options: argparse.Namespace, console: Console
) -> Generation:
    """Generate, writing each token as soon as it is there."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    written = 0

    def show(token: int) -> None:
        nonlocal written
        written += 1
        activity.note = f"token {written} of {options.max_new_tokens}"
        if console.json:
            return
        console.write(decoder.decode(bytes([token])) if session.vocabulary == BYTES else f"{token} ")

    if not console.json and options.prompt is not None:
        console.write(options.prompt)
    with console.activity("generating") as activity:
        generation = session.generate(
            prompt,
            options.max_new_tokens,
            temperature=options.temperature,
            seed=options.seed,
            on_token=show,
        )
    console.result(decoder.decode(b"", final=True) if session.vocabulary == BYTES else "")
    return generation


def _say_costs(stats: Statistics, console: Console) -> None:
    """Time of the prompt, speed of what follows, energy."""
    from runtime.report import si

    steps = stats.per_step or []
    prompt, rest = steps[0], steps[1:]
    second = stats.latency_s / stats.cycles  # of a cycle
    console.say(
        f"prompt: {prompt.tokens} tokens, {prompt.cycles:,} cycles = {si(prompt.cycles * second, 's')}"
    )
    if rest:
        cycles, tokens = sum(step.cycles for step in rest), sum(step.tokens for step in rest)
        rate = f"{tokens / (cycles * second):,.0f} tokens/s"
        console.say(f"then: {tokens:,} tokens, {cycles:,} cycles = {si(cycles * second, 's')}: {rate}")
    each = stats.energy_j.total / stats.tokens
    console.say(
        f"energy: {si(stats.energy_j.total, 'J')}, {si(each, 'J')} a token; bound by {stats.bound_by}"
    )


def _record(generation: Generation, vocabulary: int, stats: Statistics | None) -> dict[str, object]:
    text = bytes(generation.tokens).decode("utf-8", errors="replace") if vocabulary == BYTES else None
    return {
        "prompt": list(generation.prompt),
        "tokens": list(generation.tokens),
        "text": text,
        "stopped": generation.stopped.value,
        "statistics": stats.model_dump(mode="json", by_alias=True) if stats else None,
    }
