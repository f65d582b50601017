"""Small models of many families with random weights, made in code: nothing is downloaded.

Only an exporting process imports this with `torch` and `transformers` at hand; the table itself needs neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

WORDS = 160
"""Size of every vocabulary. No layer has as many outputs: an exporter knows the last layer by their number."""


class Kind(Enum):
    """What goes in and what comes out."""

    DECODER = "decoder"
    """Tokens (and a cache) to logits."""
    ENCODER = "encoder"
    """Tokens to hidden rows."""
    IMAGE = "image"
    """Pixels to hidden rows or class scores."""
    SEQ2SEQ = "seq2seq"
    """Source tokens and target tokens to logits."""
    SPEECH = "speech"
    """A spectrogram and target tokens to logits."""


@dataclass(frozen=True, slots=True)
class Family:
    """A class of `transformers` and the sizes of a tiny one."""

    kind: Kind
    model: str
    config: str
    sizes: Mapping[str, Any] = field(default_factory=dict)


def _decoder(name: str, **sizes: Any) -> Family:
    """A decoder whose configuration has the usual names."""
    usual = {
        "vocab_size": WORDS,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    sizes = {k: v for k, v in (usual | sizes).items() if v is not ...}
    return Family(Kind.DECODER, f"{name}ForCausalLM", f"{name}Config", sizes)


def _encoder(name: str, model: str = "", **sizes: Any) -> Family:
    usual = {
        "vocab_size": WORDS,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
    sizes = {k: v for k, v in (usual | sizes).items() if v is not ...}
    return Family(Kind.ENCODER, model or f"{name}Model", f"{name}Config", sizes)


def _image(name: str, **sizes: Any) -> Family:
    usual = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    return Family(Kind.IMAGE, f"{name}Model", f"{name}Config", usual | sizes)


_BART = {
    "vocab_size": WORDS,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}

_T5 = {
    "vocab_size": WORDS,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 96,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}

_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def _seq2seq(name: str, config: str = "", **sizes: Any) -> Family:
    return Family(Kind.SEQ2SEQ, f"{name}ForConditionalGeneration", f"{config or name}Config", sizes)


FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        Kind.DECODER,
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": WORDS, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 96, "n_positions": 64},
    ),
    "opt": _decoder("OPT", ffn_dim=96, word_embed_proj_dim=64),
    "llama": _decoder("Llama"),
    "llama3": _decoder("Llama", rope_scaling=_LLAMA3, rope_theta=500000.0, tie_word_embeddings=True),
    "qwen2": _decoder("Qwen2"),
    "qwen3": _decoder("Qwen3", head_dim=32),
    "mistral": _decoder("Mistral", sliding_window=4),
    "phi3": _decoder(
        "Phi3",
        num_attention_heads=2,
        num_key_value_heads=1,
        original_max_position_embeddings=64,
        partial_rotary_factor=0.5,
    ),
    "phi2": _decoder("Phi", num_attention_heads=2, num_key_value_heads=2, partial_rotary_factor=0.5),
    "gemma": _decoder("Gemma", head_dim=16, num_key_value_heads=1),
    "gemma2": _decoder("Gemma2", head_dim=32, sliding_window=4, query_pre_attn_scalar=24),
    "gemma3": Family(
        Kind.DECODER,
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        dict(_decoder("x", head_dim=32, sliding_window=4, query_pre_attn_scalar=24).sizes)
        | {"layer_types": ["sliding_attention", "full_attention"]},
    ),
    "gptj": Family(
        Kind.DECODER,
        "GPTJForCausalLM",
        "GPTJConfig",
        {
            "vocab_size": WORDS,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_inner": 96,
            "n_positions": 64,
            "rotary_dim": 8,
        },
    ),
    "gptneox": _decoder("GPTNeoX", num_key_value_heads=..., rotary_pct=0.25),
    "gptneo": Family(
        Kind.DECODER,
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        {
            "vocab_size": WORDS,
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "intermediate_size": 96,
            "max_position_embeddings": 64,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 4,
        },
    ),
    "bloom": Family(
        Kind.DECODER,
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": WORDS, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    ),
    "mpt": Family(
        Kind.DECODER,
        "MptForCausalLM",
        "MptConfig",
        {
            "vocab_size": WORDS,
            "d_model": 64,
            "n_layers": 2,
            "n_heads": 4,
            "max_seq_len": 64,
            "expansion_ratio": 2,
        },
    ),
    "falcon": _decoder(
        "Falcon",
        num_key_value_heads=...,
        num_kv_heads=2,
        new_decoder_architecture=True,
        ffn_hidden_size=96,
        intermediate_size=...,
    ),
    "falcon7b": _decoder(
        "Falcon",
        num_key_value_heads=...,
        multi_query=True,
        new_decoder_architecture=False,
        parallel_attn=True,
        intermediate_size=...,
        ffn_hidden_size=96,
    ),
    "stablelm": _decoder("StableLm", partial_rotary_factor=0.25, use_qkv_bias=True),
    "starcoder2": _decoder("Starcoder2", sliding_window=4),
    "smollm": _decoder("Llama", hidden_size=48, num_attention_heads=3, num_key_value_heads=1),
    "smollm3": _decoder("SmolLM3", no_rope_layers=[1, 0]),
    "granite": _decoder(
        "Granite",
        embedding_multiplier=3.0,
        residual_multiplier=0.25,
        attention_multiplier=0.125,
        logits_scaling=2.0,
    ),
    "cohere": _decoder("Cohere", use_qk_norm=True),
    "olmo": _decoder("Olmo", clip_qkv=None),
    "olmo2": _decoder("Olmo2"),
    "bert": _encoder("Bert"),
    "roberta": _encoder("Roberta"),
    "distilbert": _encoder(
        "DistilBert",
        dim=64,
        n_layers=2,
        n_heads=4,
        hidden_dim=96,
        hidden_size=...,
        intermediate_size=...,
        num_hidden_layers=...,
        num_attention_heads=...,
    ),
    "albert": _encoder("Albert", embedding_size=32),
    "electra": _encoder("Electra", embedding_size=32),
    "mpnet": _encoder("MPNet"),
    "modernbert": _encoder(
        "ModernBert",
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        global_attn_every_n_layers=2,
        local_attention=4,
    ),
    "deberta2": _encoder("DebertaV2", relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "cliptext": _encoder("CLIPText", "CLIPTextModelWithProjection", projection_dim=32, eos_token_id=2),
    "vit": _image("ViT"),
    "deit": _image("DeiT"),
    "dinov2": _image("Dinov2", mlp_ratio=2),
    "clipvision": _image("CLIPVision"),
    "siglip": _image("SiglipVision"),
    "t5": _seq2seq("T5", **_T5),
    "flant5": _seq2seq("T5", **_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "bart": _seq2seq("Bart", **_BART),
    "marian": Family(Kind.SEQ2SEQ, "MarianMTModel", "MarianConfig", _BART | {"scale_embedding": True}),
    "mbart": _seq2seq("MBart", **_BART),
    "pegasus": _seq2seq("Pegasus", **_BART),
    "whisper": Family(
        Kind.SPEECH,
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        _BART
        | {
            "num_mel_bins": 8,
            "max_source_positions": 1500,
            "max_target_positions": 32,
            "suppress_tokens": None,
            "begin_suppress_tokens": None,
        },
    ),
}
"""The models, by the name that the tests give them."""


def build(name: str) -> Any:
    """The model `name`, a `transformers.PreTrainedModel` in evaluation mode. Its weights depend on its name only."""
    import transformers

    family = FAMILIES[name]
    config = getattr(transformers, family.config)(**family.sizes)
    model = getattr(transformers, family.model)(config).eval().requires_grad_(False)
    model.tie_weights()
    _make_loud(model, sum(name.encode()))
    config.architectures = [family.model]
    return model


def _make_loud(model: Any, seed: int) -> None:
    """Random values for every parameter: the usual start (tiny weights, biases of zero) would hide mistakes."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            noise = torch.randn(value.shape, generator=generator)
            if "Norm" in type(module).__name__ and name == "weight":
                value.data.copy_(1 + 0.2 * noise)
            else:
                value.data.copy_(noise * (0.2 if value.ndim < 2 else 1.2 / max(value.shape[-1], 8) ** 0.5))
