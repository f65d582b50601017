"""The prompts of `cim generate`: what was given, as token ids; and several of them as a batch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from isa.diagnostics import NamedPlace, fail

from .console import Console

if TYPE_CHECKING:
    from runtime.session import Generation, Session
    from runtime.sinks.schema import Statistics

BYTES = 256  # the vocabulary of a model whose tokens are bytes

Prompt = str | tuple[int, ...]


def given_prompts(options: argparse.Namespace) -> list[Prompt]:
    """The prompts in their order. Raises `CimError` E0001 or E0601 for a file that has none."""
    if options.prompts is None:
        return list(options.prompt_ids or options.prompt)
    try:
        lines = options.prompts.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise fail("E0001", f"cannot read it: {error.strerror}", NamedPlace(str(options.prompts))) from None
    except UnicodeDecodeError:
        raise fail("E0601", "it is not UTF-8 text", NamedPlace(str(options.prompts))) from None
    prompts: list[Prompt] = [line for line in lines if line]
    if not prompts:
        raise fail("E0601", "the file has no prompts", NamedPlace(str(options.prompts)), "write one a line")
    return prompts


def prompt_ids(prompt: Prompt, vocabulary: int, model: str) -> tuple[int, ...]:
    """A prompt as token ids. Raises `CimError` E0601 where text cannot be told apart into tokens."""
    if isinstance(prompt, tuple):
        return prompt
    if vocabulary == BYTES:
        return tuple(prompt.encode("utf-8"))
    words = prompt.replace(",", " ").split()
    if words and all(word.isdecimal() for word in words):
        return tuple(map(int, words))
    message = (
        f"the model has a vocabulary of {vocabulary:,}: its tokens are not bytes, and no tokenizer is here"
    )
    raise fail("E0601", message, NamedPlace(model), "give token ids: --prompt-ids 1,2,3")


def generate_batch(
    session: Session, prompts: Sequence[tuple[int, ...]], options: argparse.Namespace, console: Console
) -> list[Generation]:
    """Continue all prompts side by side; each is written when all are there."""
    from runtime.batching import Batcher, Request

    requests = [
        Request(ids, options.max_new_tokens, temperature=options.temperature, seed=options.seed)
        for ids in prompts
    ]
    written = 0

    def count(_: int, __: int) -> None:
        nonlocal written
        written += 1
        activity.note = f"token {written} of {len(prompts) * options.max_new_tokens}"

    with console.activity("generating") as activity:
        batch = Batcher(session, prefill_tokens=options.prefill_tokens, on_token=count).run(requests)
    for generation in batch.generations:
        console.result(_text(generation, session.vocabulary))
    return list(batch.generations)


def _text(generation: Generation, vocabulary: int) -> str:
    if vocabulary != BYTES:
        return " ".join(map(str, generation.tokens))
    return bytes((*generation.prompt, *generation.tokens)).decode("utf-8", errors="replace")


def say_batch(stats: Statistics, made: Sequence[Generation], console: Console) -> None:
    """Speed, energy, and how full the KV arrays were."""
    from runtime.amounts import si
    from runtime.report import kv_text

    new = sum(len(generation.tokens) for generation in made)
    rates = (
        f"{new / stats.latency_s:,.0f} new tokens/s, {stats.tokens / stats.latency_s:,.0f} with the prompts"
    )
    console.say(
        f"batch: {len(made)} prompts, {stats.tokens:,} tokens in {stats.steps:,} steps, {stats.cycles:,} cycles = "
        f"{si(stats.latency_s, 's')}: {rates}"
    )
    each = stats.energy_j.total / stats.tokens
    console.say(
        f"energy: {si(stats.energy_j.total, 'J')}, {si(each, 'J')} a token; bound by {stats.bound_by}"
    )
    if stats.kv_cache is not None:
        console.say(f"KV cache: {kv_text(stats.kv_cache)}")
