"""Are the values right? A compiled model against ONNX Runtime's float32 on the same tokens.

Teacher-forced: both see the same text and say, after each of its tokens, what comes next. Agreement is the share of
tokens after which both find the same one likeliest; perplexity says how well each predicts the text itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from runtime.session import Session

from .oracle import Oracle

Logits = NDArray[np.float32]
BYTES = 256  # the vocabulary of a model whose tokens are bytes


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of text: `ids`, of which the first `prompt` are given and the others are to be predicted."""

    ids: tuple[int, ...]
    prompt: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """The tokens that go in: all but the last, after which nothing is compared."""
        return self.ids[:-1]

    def predictions(self, logits: Logits) -> Logits:
        """Of the logits after each input, those that predict a token behind the prompt."""
        return logits[self.prompt - 1 :]

    @property
    def truth(self) -> tuple[int, ...]:
        """The tokens behind the prompt."""
        return self.ids[self.prompt :]


def windows_of(ids: Sequence[int], count: int, prompt: int, tokens: int) -> tuple[Window, ...]:
    """`count` windows of prompt + tokens ids, evenly spread over `ids`. Raises `CimError` E0601 if it is too short."""
    size = prompt + tokens
    if len(ids) < size:
        message = f"the text has {len(ids)} tokens, a window takes {size}"
        raise fail("E0601", message, help="a longer text, or fewer --tokens")
    starts = np.linspace(0, len(ids) - size, count).astype(int)
    return tuple(Window(tuple(ids[start : start + size]), prompt) for start in starts)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found over all windows."""

    windows: int
    tokens: int
    agreement: float
    perplexity: float
    reference_perplexity: float
    largest_difference: float
    """Between logits, on the scale of the reference's standard deviation."""
    change_error: float
    """Standard error of `perplexity_change`: how far it moves with which windows of the text are taken."""

    @property
    def perplexity_change(self) -> float:
        """Relative: +0.01 is one percent worse than the reference."""
        return self.perplexity / self.reference_perplexity - 1


def compare(
    session: Session,
    oracle: Oracle,
    windows: Sequence[Window],
    on_window: Callable[[int], None] | None = None,
) -> Comparison:
    """Run every window through both. `on_window(number)` is called before each."""
    same = tokens = 0
    difference, ours, theirs = 0.0, list[float](), list[float]()
    for number, window in enumerate(windows):
        if on_window is not None:
            on_window(number)
        got = window.predictions(session.score(window.inputs))
        want = window.predictions(oracle.logits(window.inputs))
        same += int((got.argmax(axis=1) == want.argmax(axis=1)).sum())
        tokens += len(window.truth)
        ours.append(surprise(got, window.truth))
        theirs.append(surprise(want, window.truth))
        difference = max(difference, float(np.abs(got - want).max() / want.std()))
    return Comparison(
        len(windows),
        tokens,
        same / tokens,
        math.exp(sum(ours) / tokens),
        math.exp(sum(theirs) / tokens),
        difference,
        change_error(ours, theirs, tokens),
    )


def change_error(ours: Sequence[float], theirs: Sequence[float], tokens: int) -> float:
    """The standard error of a change of perplexity, from the surprise of each of several windows of equal length, of
    `tokens` tokens in all: the spread of their differences. 0 of a single window, which says nothing of it.

    With d_w the difference a token of window w, the change is exp(mean d) - 1, its error exp(mean d) std(d) / sqrt(n).
    """
    count = len(ours)
    if count < 2:
        return 0.0
    apart = (np.asarray(ours) - np.asarray(theirs)) / (tokens / count)
    return float(np.exp(apart.mean()) * apart.std(ddof=1) / math.sqrt(count))


def surprise(logits: Logits, truth: Sequence[int]) -> float:
    """The sum of -ln p(token) over rows of logits, p being their softmax. In nats."""
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    totals = np.log(np.exp(shifted).sum(axis=1))
    return float((totals - shifted[np.arange(len(truth)), list(truth)]).sum())


def text_ids(text: bytes, vocabulary: int, seed: int = 0) -> tuple[tuple[int, ...], str]:
    """Tokens to compare on, and what they are: the bytes of `text`, or random ids where tokens are not bytes."""
    if vocabulary == BYTES:
        return tuple(text), "text"
    ids = np.random.default_rng(seed).integers(0, vocabulary, 4096)
    return tuple(ids.tolist()), f"random tokens (seed {seed})"
