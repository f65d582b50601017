"""The cases of the mapping suite: models x contexts x batches x systems, each in decode and prefill.

Layers are identical and the simulator of time is slow, so large models have two layers (and say so in their names), but
full width; one has all of its layers, to show what two of them hide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

CONTEXTS = (512, 2048, 8192, 32768)
BATCHES = (1, 8, 32)
PREFILL = 64
"""Tokens of a prefill: the last of the context."""

SHORT = 128
"""Tokens of an encoder in the quick selection."""


class System(Enum):
    """What a case runs on; `systems.py` makes the hardware."""

    DCIM22 = "dcim22"  # just enough chips at 22 nm
    DENSE = "dense"  # just enough chips at 3 nm
    HYBRID = "hybrid"  # projections on a GPU, attention on as many chips as hold the cache
    SMALL = "small"  # one chip at 22 nm, which streams what it cannot hold


class Phase(Enum):
    """What a step does: one token a sequence at the end of the context, or many."""

    DECODE = "decode"
    PREFILL = "prefill"


@dataclass(frozen=True, slots=True)
class Model:
    """A model: its configuration's name, how many layers (0: all), the longest context that it allows.

    `trained` is the file that ships, `encoder` one that takes whole sequences.
    """

    config: str
    layers: int = 0
    longest: int = CONTEXTS[-1]
    trained: bool = False
    encoder: bool = False

    @property
    def name(self) -> str:
        """`llama-2-7b-2`: the model with two of its layers."""
        return f"{self.config}-{self.layers}" if self.layers else self.config

    def contexts(self) -> tuple[int, ...]:
        """The suite's contexts, as far as the model goes; its longest if that lies between two of them."""
        return tuple(dict.fromkeys(min(context, self.longest) for context in CONTEXTS))


PYTINY = Model("pytiny", longest=512, trained=True)
GPT2 = Model("gpt2", longest=1024)
GPT2_2 = Model("gpt2", 2, 1024)
BERT = Model("bert-base", 2, 512, encoder=True)
OPT_6_7B = Model("opt-6.7b", 2, 2048)
OPT_30B = Model("opt-30b", 2, 2048)
LLAMA_2 = Model("llama-2-7b", 2)
LLAMA_3 = Model("llama-3-8b", 2)
WHOLE = Model("llama-2-7b")
"""The case at full depth."""

LLAMA_TINY = Model("llama-tiny", 2, 2048)
LLAMA_HEADS = Model("llama-heads", 1, 8192)
GPT2_TINY = Model("gpt2-tiny", 2, 256)

MODELS = (PYTINY, GPT2, BERT, OPT_6_7B, OPT_30B, LLAMA_2, LLAMA_3)


@dataclass(frozen=True, slots=True)
class Setup:
    """What is compiled once: a model for a context and a batch on a system, and the phases that are measured.

    `kv` and `kv_tokens` are the options of that name; `window` is how far back attention sees, if not all the way.
    """

    model: Model
    context: int
    batch: int
    system: System
    phases: tuple[Phase, ...] = (Phase.DECODE, Phase.PREFILL)
    kv: str = "auto"
    kv_tokens: int | None = None
    window: int | None = None

    @property
    def name(self) -> str:
        """`llama-2-7b-2 2048x8 on dcim22`, and what else it is compiled with."""
        policy = f", {self.kv} KV" if self.kv != "auto" else ""
        pages = f", {self.kv_tokens} KV tokens" if self.kv_tokens else ""
        window = f", window {self.window}" if self.window else ""
        return f"{self.model.name} {self.context}x{self.batch} on {self.system.value}{policy}{pages}{window}"

    @property
    def length(self) -> int:
        """Tokens of each sequence when a step ends: the context, or as many as all of them have room for."""
        return min(self.context, self.kv_tokens // self.batch) if self.kv_tokens else self.context

    @property
    def tokens(self) -> int:
        """Tokens that a rough estimate of its effort counts; those of a model at full depth weigh more."""
        sizes = {Phase.DECODE: 1, Phase.PREFILL: PREFILL}
        return self.batch * sum(sizes[phase] for phase in self.phases) * (1 if self.model.layers else 50)


def matching(setups: Iterable[Setup], pattern: str) -> list[Setup]:
    """The setups with a pattern in their names, in which `*` stands for anything."""
    return [setup for setup in setups if fnmatchcase(setup.name, f"*{pattern}*")]


def full() -> Iterator[Setup]:
    """Every case."""
    for system in System:
        for model in MODELS:
            phases = (Phase.PREFILL,) if model.encoder else (Phase.DECODE, Phase.PREFILL)
            for context in model.contexts():
                for batch in BATCHES:
                    yield Setup(model, context, batch, system, phases)
    yield Setup(WHOLE, 2048, 1, System.DCIM22, (Phase.DECODE,))


def quick() -> Iterator[Setup]:
    """A selection that takes two cores less than three minutes: every model, system and phase occurs, and one large
    model at its full depth."""
    both, decode = (Phase.DECODE, Phase.PREFILL), (Phase.DECODE,)
    yield Setup(PYTINY, 512, 1, System.DCIM22, both)
    yield Setup(PYTINY, 512, 8, System.DCIM22, decode)
    yield Setup(GPT2, 512, 1, System.DCIM22, both)
    yield Setup(BERT, SHORT, 1, System.DCIM22, (Phase.PREFILL,))
    yield Setup(OPT_6_7B, 2048, 1, System.DCIM22, both)
    yield Setup(OPT_30B, 2048, 1, System.DCIM22, decode)
    yield Setup(LLAMA_2, 512, 1, System.DCIM22, both)
    yield Setup(LLAMA_2, 2048, 8, System.DCIM22, decode)
    yield Setup(LLAMA_3, 2048, 1, System.DCIM22, both)
    yield Setup(LLAMA_3, 8192, 1, System.DCIM22, decode)
    yield Setup(LLAMA_3, 2048, 1, System.DENSE, both)
    yield Setup(LLAMA_2, 2048, 8, System.DENSE, decode)
    yield Setup(LLAMA_3, 2048, 1, System.HYBRID, both)
    yield Setup(GPT2_2, 512, 1, System.SMALL, both)
    yield Setup(WHOLE, 2048, 1, System.DCIM22, decode)


def ablation() -> Iterator[Setup]:
    """Small cases in which each optimisation can show what it does: windows, pages, batches, rows in memory, biases,
    streamed weights, several chips, many heads with tables of angles that are too long for their buffers."""
    both, decode = (Phase.DECODE, Phase.PREFILL), (Phase.DECODE,)
    yield Setup(PYTINY, 512, 1, System.DCIM22, both)
    yield Setup(PYTINY, 512, 8, System.DCIM22, decode)
    yield Setup(LLAMA_TINY, 2048, 8, System.DCIM22, both, window=256)
    yield Setup(LLAMA_TINY, 2048, 1, System.DCIM22, both, window=256)
    yield Setup(PYTINY, 512, 1, System.DCIM22, both, kv="streamed")
    yield Setup(PYTINY, 512, 16, System.DCIM22, decode, kv_tokens=4096)
    yield Setup(LLAMA_TINY, 256, 64, System.DCIM22, decode)
    yield Setup(LLAMA_HEADS, 8192, 1, System.DCIM22, both)
    yield Setup(GPT2_TINY, 256, 1, System.DCIM22, both)
    yield Setup(GPT2_2, 512, 1, System.DCIM22, both)
    yield Setup(GPT2_2, 512, 1, System.SMALL, decode)
