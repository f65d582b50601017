"""Continue a prompt, token by token, on the simulated chip; then say what it took.

The text goes to standard output as it is generated, the report to standard error. A model whose tokens are bytes takes
its prompt as text; for others give token ids. Several prompts are a batch: they share steps (docs/batching.md).
"""

from __future__ import annotations

import argparse
import codecs
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.arguments import fraction, natural, positive

from .analog import add_activity_option, add_analog_options, analog_options, meter_of
from .console import Console
from .costing import Costing, add_cost_options
from .files import read_arrays
from .loading import program_or_model
from .options import AUTO, add_compile_options, add_engine_option
from .paths import names_files
from .prompts import BYTES, generate_batch, given_prompts, prompt_ids, say_batch

if TYPE_CHECKING:
    from runtime.session import Generation, Session
    from runtime.sinks.schema import Statistics


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim generate MODEL.onnx|OUT.cim --prompt TEXT ...`"""
    parser.add_argument("model", metavar="MODEL.onnx|OUT.cim", help="a model (compiled first) or a program")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", action="append", metavar="TEXT", help="text to continue (repeatable)")
    prompt.add_argument(
        "--prompt-ids", action="append", type=_ids, metavar="1,2,3", help="token ids to continue (repeatable)"
    )
    prompt.add_argument(
        "--prompts", type=Path, metavar="FILE", help="texts to continue, one a line; or their token ids"
    )
    parser.add_argument(
        "--source",
        metavar="FILE.npz",
        help="of an encoder-decoder: what the encoder made, under the names of the decoder's inputs, for all prompts",
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
    add_engine_option(parser)
    add_analog_options(parser)
    add_activity_option(parser)
    parser.add_argument("--no-timing", action="store_true", help="only values: no cycles and joules")
    add_cost_options(parser)
    add_compile_options(parser)
    parser.add_argument(
        "--prefill-tokens",
        type=positive,
        default=64,
        metavar="N",
        help="of a batch: tokens of prompts that go through in a step at most (default: %(default)s)",
    )
    names_files(parser, reads=("model", "prompts", "source", "bind", "target"), keeps=("stats", "trace"))
    parser.set_defaults(usage_error=parser.error, batch=None)


def _ids(text: str) -> tuple[int, ...]:
    return tuple(natural(word) for word in text.replace(",", " ").split())


def run(options: argparse.Namespace, console: Console) -> int:
    """Generate; report."""
    from runtime.analog.options import applied
    from runtime.session import Session
    from runtime.values import EngineKind

    if options.no_timing and (options.stats or options.trace or options.timing != AUTO):
        options.usage_error("--stats, --trace and --timing need the timing that --no-timing leaves out")
    if options.no_timing and options.activity == "measured":
        options.usage_error("--activity measured needs the timing that --no-timing leaves out")
    prompts = given_prompts(options)
    program = program_or_model(options.model, options, console, batch=len(prompts))
    analog, meter = analog_options(options, program, console), meter_of(options, program)
    session = Session(program, engine=EngineKind(options.engine), analog=analog, meter=meter)
    if options.source:
        rows = read_arrays(options.source)
        for sequence in range(program.step_limits.sequences):
            session.set_source_inputs(rows, sequence)
    ids = [prompt_ids(prompt, session.vocabulary, options.model) for prompt in prompts]
    began = time.perf_counter()
    made = (
        [_generate(session, ids[0], options, console)]
        if len(ids) == 1
        else generate_batch(session, ids, options, console)
    )
    seconds = time.perf_counter() - began
    stats = None
    if not options.no_timing:
        costing = Costing(program, options, console)
        costs = costing.steps(session.steps)
        stats = costing.statistics(
            *(costs, session.engine.value, time.perf_counter() - began, session.uses),
            applied(program, analog),
            meter,
        )
        say_costs(stats, made[0], console) if len(ids) == 1 else say_batch(stats, made, console)
        say_activity(stats, console)
    console.say(
        f"simulated in {seconds:.1f} s of values" + (f", {stats.wall_s:.1f} s in all" if stats else "")
    )
    console.data(_record(made, session.vocabulary, stats))
    return 0


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

    if not console.json and options.prompt_ids is None and session.vocabulary == BYTES:
        console.write(bytes(prompt).decode("utf-8", errors="replace"))
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


def say_costs(stats: Statistics, made: Generation, console: Console) -> None:
    """Time of the prompt, which may take several steps, speed of what follows, energy."""
    from runtime.amounts import si

    steps = stats.per_step or []
    first = len(steps) - (len(made.tokens) - 1)  # the first new token comes out of the prompt's last step
    prompt, rest = steps[:first], steps[first:]
    second = stats.latency_s / stats.cycles  # of a cycle
    tokens, cycles = sum(step.tokens for step in prompt), sum(step.cycles for step in prompt)
    console.say(f"prompt: {tokens} tokens, {cycles:,} cycles = {si(cycles * second, 's')}")
    if rest:
        cycles, tokens = sum(step.cycles for step in rest), sum(step.tokens for step in rest)
        rate = f"{tokens / (cycles * second):,.0f} tokens/s"
        console.say(f"then: {tokens:,} tokens, {cycles:,} cycles = {si(cycles * second, 's')}: {rate}")
    each = stats.energy_j.total / stats.tokens
    console.say(
        f"energy: {si(stats.energy_j.total, 'J')}, {si(each, 'J')} a token; bound by {stats.bound_by}"
    )


def say_activity(stats: Statistics, console: Console) -> None:
    """What measured data did to the energy, if they were measured."""
    from runtime.report import activity_lines

    if stats.activity is not None:
        for name, text in activity_lines(stats):
            console.say(f"{name}: {text}")


def _record(made: list[Generation], vocabulary: int, stats: Statistics | None) -> dict[str, object]:
    """One generation with the statistics; of a batch all of them."""
    records = [_one(generation, vocabulary) for generation in made]
    found = stats.model_dump(mode="json", by_alias=True) if stats else None
    first = records[0] if len(records) == 1 else {"generations": records}
    return {**first, "statistics": found}


def _one(generation: Generation, vocabulary: int) -> dict[str, object]:
    text = bytes(generation.tokens).decode("utf-8", errors="replace") if vocabulary == BYTES else None
    return {
        "prompt": list(generation.prompt),
        "tokens": list(generation.tokens),
        "text": text,
        "stopped": generation.stopped.value,
    }
