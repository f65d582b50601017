"""Closed forms of docs/headline.md: what a token asks for, and what CPUs and GPUs take for it."""

from __future__ import annotations

import pytest

from benchmarks.headline.baselines import (
    AIM,
    FLEXGEN,
    H100,
    IDEAL,
    POSTER,
    SEED,
    machine,
    machines,
    published,
)
from benchmarks.headline.cases import Cell, Scope
from benchmarks.headline.demand import BYTE, cache_elements, demand, ffn_weights, other_weights
from models.configs import CONFIGS
from models.make import architecture

LLAMA = Cell("llama-2-7b", 2048, 1)


def test_attention_of_llama_2_7b_behind_2048_tokens() -> None:
    asked = demand(LLAMA, Scope.ATTENTION)
    assert asked.cache_bytes == 2 * 32 * 32 * 128 * 2048 * 2 == 1_073_741_824
    assert asked.cache_flops == 1_073_741_824  # one multiply-accumulate an element, of 2 bytes
    assert asked.weight_bytes == asked.weight_flops == 0
    ideal = machine(IDEAL)
    assert ideal.seconds(asked) == pytest.approx(1_073_741_824 / 245.8e9)
    assert ideal.joules(asked) == pytest.approx(350 * 4.36836e-3 + 1_073_741_824 * 8 * 15e-12, rel=1e-5)
    assert machine(FLEXGEN).seconds(asked) == pytest.approx(1_073_741_824 / 12.3e9)


def test_feed_forward_layers_of_llama_2_7b() -> None:
    asked = demand(LLAMA, Scope.FFN)
    assert asked.weight_bytes == 3 * 32 * 4096 * 11008 * 2 == 8_657_043_456
    assert machine(IDEAL).seconds(asked) == pytest.approx((1_073_741_824 + 8_657_043_456) / 245.8e9)
    assert machine(FLEXGEN).seconds(asked) == pytest.approx(1_073_741_824 / 12.3e9 + 8_657_043_456 / 12.89e9)


def test_the_whole_of_a_model_is_its_weights_without_embeddings_and_norms() -> None:
    for name in ("llama-2-7b", "llama-3-8b", "opt-6.7b", "opt-13b", "opt-30b"):
        config = CONFIGS[name]
        matrices = {
            p.name: p.count
            for p in architecture(config).parameters
            if len(p.shape) == 2 and "embed" not in p.name
        }
        assert ffn_weights(config) + other_weights(config) == sum(matrices.values())


def test_large_batches_are_bound_by_operations() -> None:
    many = demand(Cell("llama-2-7b", 512, 32), Scope.FFN)
    slow = machine(FLEXGEN)
    assert many.weight_flops == 32 * many.weight_bytes
    assert many.weight_flops / slow.flops < many.weight_bytes / slow.weight_bandwidth
    huge = demand(Cell("llama-2-7b", 512, 1024), Scope.FFN)
    assert slow.seconds(huge) == pytest.approx(huge.cache_bytes / 12.3e9 + huge.weight_flops / 4.3e12)


def test_an_int8_cache_takes_half_of_the_time() -> None:
    ideal = machine(IDEAL)
    half, byte = demand(LLAMA, Scope.WHOLE), demand(LLAMA, Scope.WHOLE, BYTE)
    assert ideal.seconds(byte) == pytest.approx(ideal.seconds(half) / 2)
    assert ideal.joules(byte) == pytest.approx(ideal.joules(half) / 2)


def test_query_heads_share_the_cache_of_llama_3_8b() -> None:
    grouped = demand(Cell("llama-3-8b", 2048, 1), Scope.ATTENTION)
    assert grouped.cache_bytes * 4 == demand(LLAMA, Scope.ATTENTION).cache_bytes
    assert grouped.cache_flops == demand(LLAMA, Scope.ATTENTION).cache_flops
    assert cache_elements(CONFIGS["llama-3-8b"], 2048, 8) == 8 * cache_elements(
        CONFIGS["llama-3-8b"], 2048, 1
    )


def test_an_h100_over_the_ideal_cpu_does_not_depend_on_the_cell() -> None:
    ratios = set()
    for cell in (LLAMA, Cell("opt-30b", 512, 1), Cell("opt-13b", 8192, 8)):
        asked = demand(cell, Scope.ATTENTION)
        ours, theirs = machine(H100), machine(IDEAL)
        latency, energy = (
            ours.seconds(asked) / theirs.seconds(asked),
            ours.joules(asked) / theirs.joules(asked),
        )
        ratios.add((round(latency, 5), round(energy, 5)))
    assert ratios == {(0.09165, 0.16905)}  # 245.8 / 2682 and that x 700 / (350 + 245.8e9 x 120e-12)


def test_what_was_published() -> None:
    assert published(SEED).holds(0.026, 1.199e-3)
    assert not published(SEED).holds(0.0261, 1e-4)
    assert not published(POSTER).holds(0.021, 1.24e-4)
    assert not published(AIM).holds(0.011, 1e-5)
    assert [m.name for m in machines()] == ["ideal", "flexgen", "a100", "h100"]
