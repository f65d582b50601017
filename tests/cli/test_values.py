"""`cim run`, `generate`, `report`, `check`: values, statistics, traces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import models
from runtime.sinks.statistics import read_statistics
from tests.cli.conftest import Cim


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "in.npz"
    np.savez(path, input_ids=np.array([[5, 6, 7, 8, 9]]))
    return path


def test_run_computes_values_and_costs(cim: Cim, program: Path, inputs: Path, tmp_path: Path) -> None:
    out, stats = tmp_path / "out.npz", tmp_path / "s.json"
    done = cim("run", program, "--inputs", inputs, "--outputs", out, "--stats", stats)
    assert done.code == 0
    with np.load(out) as arrays:
        assert arrays["logits"].shape == (1, 5, 256)
        assert np.isfinite(arrays["logits"]).all()
    assert read_statistics(stats).tokens == 5
    assert "cycles" in done.out
    assert str(out) in done.err


def test_timing_only_costs_the_same_as_values(cim: Cim, program: Path, inputs: Path) -> None:
    """Time does not depend on values: prefill and decode cost what the same segments cost without them."""
    with_values = cim("generate", program, "--prompt-ids", "1 2 3", "--max-new-tokens", 2, "--json").data[
        "statistics"
    ]
    first = cim("run", program, "--timing-only", "--tokens", 3, "--json").data
    second = cim("run", program, "--timing-only", "--tokens", 1, "--position", 3, "--json").data
    assert with_values["cycles"] == first["cycles"] + second["cycles"]


@pytest.mark.parametrize("suffix", ["json", "jsonl", "kanata"])
def test_traces(cim: Cim, program: Path, tmp_path: Path, suffix: str) -> None:
    trace = tmp_path / f"t.{suffix}"
    assert cim("run", program, "--timing-only", "--trace", trace).code == 0
    text = trace.read_text()
    if suffix == "json":
        assert len(json.loads(text)["traceEvents"]) > 100
    assert len(text.splitlines()) > 100


def test_run_refuses_what_does_not_belong_together(cim: Cim, program: Path, inputs: Path) -> None:
    assert cim("run", program).code == 2
    assert cim("run", program, "--timing-only", "--inputs", inputs).code == 2
    assert cim("run", program, "--inputs", inputs, "--tokens", 3).code == 2


def test_the_fast_engine_is_not_there_yet(cim: Cim, program: Path, inputs: Path) -> None:
    done = cim("run", program, "--inputs", inputs, "--engine", "fast")
    assert done.code == 1
    assert "error[E0305]" in done.err


def test_generate_streams_text_and_reports_apart(cim: Cim, model: Path, program: Path) -> None:
    done = cim("generate", program, "--prompt", "ab", "--max-new-tokens", 5)
    assert done.code == 0
    assert done.out.startswith("ab")
    assert "tokens/s" in done.err
    assert "energy:" in done.err
    compiled_on_the_way = cim("generate", model, "--max-context", 64, "--prompt", "ab", "--max-new-tokens", 5)
    assert compiled_on_the_way.out == done.out


def test_generate_depends_on_the_seed_alone(cim: Cim, program: Path) -> None:
    def tokens(*words: object) -> list[int]:
        words = (
            "generate",
            program,
            "--prompt",
            "ab",
            "--max-new-tokens",
            12,
            "--no-timing",
            "--json",
            *words,
        )
        return list(cim(*words).data["tokens"])

    assert tokens("--temperature", 1.5, "--seed", 1) == tokens("--temperature", 1.5, "--seed", 1)
    assert tokens("--temperature", 1.5, "--seed", 1) != tokens("--temperature", 1.5, "--seed", 2)
    assert tokens() == tokens("--seed", 2)


def test_generate_beyond_the_context(cim: Cim, program: Path) -> None:
    done = cim("generate", program, "--prompt", "ab", "--max-new-tokens", 100)
    assert done.code == 1
    assert "error[E0602]" in done.err
    assert "--max-context" in done.err


def test_report_and_baseline(cim: Cim, program: Path, tmp_path: Path) -> None:
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    cim("run", program, "--timing-only", "--position", 40, "--stats", new)
    cim("run", program, "--timing-only", "--position", 2, "--stats", old)
    alone = cim("report", new)
    assert alone.code == 0
    assert "bound by" in alone.out
    compared = cim("report", new, "--baseline", old)
    assert "baseline" in compared.out
    assert cim("report", new, "--baseline", old, "--json").data["ratios"]["cycles"] > 1


def test_check_passes_and_names_the_worst_layer(cim: Cim) -> None:
    words = ("check", models.path(models.PYTINY), "--prompts", 1, "--prompt-tokens", 24, "--tokens", 24)
    few_tokens = ("--min-agreement", 0.9, "--max-perplexity-change", 0.02)
    done = cim(*words, *few_tokens, "--max-context", 64, "--every-layer", "--json")
    assert done.code == 0
    assert done.data["passed"] is True
    assert done.data["agreement"] >= 0.9
    layers = done.data["layers"]
    assert len(layers) > 60
    assert max(layer["relative_error"] for layer in layers) < 0.1
    assert layers[0]["relative_error"] == 0  # the embedding is looked up, not computed


def test_check_says_when_results_differ(cim: Cim, model: Path) -> None:
    words = (
        "check",
        model,
        "--prompts",
        1,
        "--prompt-tokens",
        8,
        "--tokens",
        8,
    )
    done = cim(*words, "--max-context", 64, "--max-perplexity-change", 1e-9)
    assert done.code == 3
    assert "failed: the results differ" in done.out


def test_check_wants_a_context_that_is_long_enough(cim: Cim, model: Path) -> None:
    done = cim("check", model, "--max-context", 32)
    assert done.code == 1
    assert "error[E0602]" in done.err
    assert "--max-context 128" in done.err
