"""Sizes of the models that can be built, one frozen dataclass a family and one table of names.

The figures are those of the published `config.json` files of the same names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """Llama family: RMSNorm, rotary embedding, grouped-query attention, SwiGLU, no biases."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    max_positions: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = False

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True)
class Gpt2Config:
    """GPT-2 family: LayerNorm, learned positions, one fused QKV product, tanh GELU, tied head."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    ffn: int
    max_positions: int
    norm_eps: float = 1e-5

    @property
    def kv_heads(self) -> int:
        """Heads of the cache (all of them)."""
        return self.heads

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True)
class OptConfig:
    """OPT family: LayerNorm first, learned positions with an offset of 2, biases, ReLU, tied head."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    ffn: int
    max_positions: int
    norm_eps: float = 1e-5

    @property
    def kv_heads(self) -> int:
        """Heads of the cache (all of them)."""
        return self.heads

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True)
class BertConfig:
    """BERT encoder: learned positions and token types, LayerNorm last, erf GELU, no cache."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    ffn: int
    max_positions: int
    token_types: int = 2
    norm_eps: float = 1e-12

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.hidden // self.heads


Config = LlamaConfig | Gpt2Config | OptConfig | BertConfig

PYTINY = LlamaConfig(vocab=256, hidden=256, layers=4, heads=8, kv_heads=2, ffn=512, max_positions=512)
"""The model that ships: byte vocabulary, trained by `models.train`."""

CONFIGS: dict[str, Config] = {
    "llama-tiny": LlamaConfig(
        vocab=256, hidden=64, layers=2, heads=4, kv_heads=2, ffn=128, max_positions=256
    ),
    "llama-heads": LlamaConfig(
        vocab=256, hidden=256, layers=1, heads=16, kv_heads=16, ffn=512, max_positions=256
    ),
    "gpt2-tiny": Gpt2Config(vocab=256, hidden=64, layers=2, heads=4, ffn=256, max_positions=256),
    "gpt2": Gpt2Config(vocab=50257, hidden=768, layers=12, heads=12, ffn=3072, max_positions=1024),
    "opt-6.7b": OptConfig(vocab=50272, hidden=4096, layers=32, heads=32, ffn=16384, max_positions=2048),
    "opt-13b": OptConfig(vocab=50272, hidden=5120, layers=40, heads=40, ffn=20480, max_positions=2048),
    "opt-30b": OptConfig(vocab=50272, hidden=7168, layers=48, heads=56, ffn=28672, max_positions=2048),
    "llama-2-7b": LlamaConfig(
        vocab=32000, hidden=4096, layers=32, heads=32, kv_heads=32, ffn=11008, max_positions=4096
    ),
    "llama-3-8b": LlamaConfig(
        vocab=128256,
        hidden=4096,
        layers=32,
        heads=32,
        kv_heads=8,
        ffn=14336,
        max_positions=8192,
        rope_theta=500000.0,
    ),
    "llama-3-70b": LlamaConfig(
        vocab=128256,
        hidden=8192,
        layers=80,
        heads=64,
        kv_heads=8,
        ffn=28672,
        max_positions=8192,
        rope_theta=500000.0,
    ),
    "bert-base": BertConfig(vocab=30522, hidden=768, layers=12, heads=12, ffn=3072, max_positions=512),
}
"""Every name that `python -m models.make` knows."""


def with_layers(config: Config, layers: int) -> Config:
    """The same model with another number of identical layers (at least one)."""
    if layers < 1:
        raise ValueError(f"a model needs at least one layer, got {layers}")
    return replace(config, layers=layers)


def with_positions(config: Config, positions: int) -> Config:
    """The same model for at least so many positions: where they are learned, its table has more rows."""
    return replace(config, max_positions=max(config.max_positions, positions))
