"""`cim run`, `generate`, `report`, `check`: values, statistics, traces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import models
from benchmarks.registry import BENCHMARKS
from compiler.frontend.importer import import_model
from runtime.cli.console import Console
from runtime.cli.generate import say_costs
from runtime.session import Generation, Stopped
from runtime.sinks.schema import StepRecord
from runtime.sinks.statistics import read_statistics
from tests.backend.test_caches import with_source
from tests.cli.conftest import Cim, Result
from tests.frontend.oracle import expected, feeds_for, write_small
from tests.timing.test_report import stats


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


def test_timing_of_a_source(cim: Cim, program: Path, tmp_path: Path) -> None:
    """Rows of the source come with the first step; later ones only look at them."""
    crossed = tmp_path / "crossed.cim"
    made = cim("compile", with_source(tmp_path), "--target", "dcim22", "--max-source", 40, "-o", crossed)
    assert made.code == 0

    def found(what: str, *options: object) -> int:
        return int(cim("run", crossed, "--timing-only", *options, "--json").data[what])

    assert found("cycles") == found("cycles", "--source", 40) > found("cycles", "--source", 4)
    first, later = (found("instructions", "--source", 40, "--position", at) for at in (0, 3))
    assert first > later
    assert "looks at no source" in cim("run", program, "--timing-only", "--source", 4).err
    assert cim("run", crossed, "--timing-only", "--source", 41).code == 1
    assert cim("run", crossed, "--source", 4).code == 2


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


def test_both_engines_give_the_same(cim: Cim, program: Path, inputs: Path, tmp_path: Path) -> None:
    made = []
    for engine in ("fast", "reference"):
        outputs, stats = tmp_path / f"{engine}.npz", tmp_path / f"{engine}.json"
        words = ("run", program, "--inputs", inputs, "--engine", engine)
        assert cim(*words, "--outputs", outputs, "--stats", stats).code == 0
        assert json.loads(stats.read_text())["engine"] == engine
        made.append(dict(np.load(outputs)))
    assert made[0].keys() == made[1].keys()
    assert all(made[0][name].tobytes() == made[1][name].tobytes() for name in made[0])


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


def test_a_batch_gives_what_each_prompt_gives_alone(cim: Cim, model: Path, tmp_path: Path) -> None:
    sizes = ("--max-new-tokens", 4, "--max-context", 200, "--target", "tiny", "--json")
    prompts = ["ab" * 30, "c", "the third"]
    batch = cim("generate", model, *sizes, *(w for p in prompts for w in ("--prompt", p)), "--kv-tokens", 320)
    found = [one["text"] for one in batch.data["generations"]]
    assert found == [
        cim("generate", model, *sizes, "--prompt", p, "--no-timing").data["text"] for p in prompts
    ]
    stats = batch.data["statistics"]
    assert stats["tokens"] == sum(map(len, prompts)) + 3 * 3
    kv = stats["kv_cache"]
    assert (kv["sequences"], kv["capacity"], kv["pages"] * kv["page_rows"]) == (3, 320, 320)
    assert kv["peak_tokens"] <= kv["peak_pages"] * kv["page_rows"]
    assert 0 < kv["fragmentation"] < 1
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(prompts) + "\n")
    fewer = cim("generate", model, *sizes, "--prompts", file, "--batch", 2, "--prefill-tokens", 7)
    assert [one["text"] for one in fewer.data["generations"]] == found
    assert fewer.data["statistics"]["kv_cache"]["sequences"] == 2


def test_a_batch_is_written_line_by_line(cim: Cim, program: Path, tmp_path: Path) -> None:
    done = cim("generate", program, "--prompt", "ab", "--prompt", "cd", "--max-new-tokens", 2)
    assert done.code == 0
    assert [line[:2] for line in done.out.splitlines()] == ["ab", "cd"]
    assert "new tokens/s" in done.err
    assert "of sequences' pages empty" in done.err
    assert cim("generate", program, "--prompts", tmp_path / "none.txt").code == 1
    (tmp_path / "none.txt").write_text("\n")
    assert "no prompts" in cim("generate", program, "--prompts", tmp_path / "none.txt").err


def test_timing_of_a_step_of_several_sequences(cim: Cim, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "batch.cim"
    words = ("--max-context", 200, "--target", "tiny", "--batch", 3, "--kv-tokens", 320)
    assert cim("compile", model, "-o", out, *words).code == 0

    def run(*options: object) -> Result:
        return cim("run", out, "--timing-only", *options, "--json")

    mixed = run("--segments", "32@0,1@150,1@17").data
    assert mixed["tokens"] == 34
    assert mixed["cycles"] > run("--segments", "32@0").data["cycles"]
    assert run("--segments", "1@150").data["cycles"] == run("--position", 150).data["cycles"]
    assert "E0607" in run("--segments", "1@199,1@199,1@199").err
    assert run("--segments", "1@0", "--tokens", 2).code == 2
    assert run("--segments", "1").code == 2


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


def test_check_of_an_encoder_compares_its_outputs(cim: Cim, tmp_path: Path) -> None:
    path = write_small("bert", tmp_path / "bert.onnx")
    done = cim("check", path, "--max-context", 16, "--json")
    assert done.code == 0, done.err
    (output,) = done.data["outputs"]
    assert output["shape"] == [2, 16, 64] and 0 < output["relative_error"] < 0.06
    strict = cim("check", path, "--max-context", 16, "--max-error", "1e-6")
    assert strict.code == 3
    assert "failed: the results differ" in strict.out
    assert cim("check", path, "--max-context", 16, "--max-error", "1e-5", "--weights", "float32").code == 0
    refused = cim("check", path, "--max-context", 16, "--every-layer", "--tokens", 8)
    assert (
        refused.code == 1 and "--every-layer, --tokens can be had of decoders of tokens alone" in refused.err
    )


def test_check_refuses_what_it_would_not_look_at(cim: Cim, model: Path, tmp_path: Path) -> None:
    done = cim("check", model, "--max-error", "1e-3")
    assert done.code == 1 and "--max-error: error[E0601]" in done.err
    path, text = write_small("llama", tmp_path / "words.onnx"), tmp_path / "text.txt"
    text.write_text("words " * 100)
    done = cim("check", path, "--max-context", 128, "--text", text)
    assert done.code == 1 and "tokens are not bytes" in done.err


@pytest.mark.parametrize("words", [["--max-context", 64], ["--without", "hub"], ["--batch", 2]])
def test_a_program_is_not_compiled_again(cim: Cim, program: Path, words: list[object]) -> None:
    done = cim("generate", program, "--prompt", "ab", "--max-new-tokens", 2, *words)
    assert done.code == 1 and f"{words[0]}: error[E0601]" in done.err
    assert "compiled already" in done.err


def test_run_takes_and_gives_what_the_file_names(cim: Cim, tmp_path: Path) -> None:
    path, program = write_small("llama", tmp_path / "m.onnx"), tmp_path / "m.cim"
    words = ("compile", path, "-o", program, "--max-context", 16, "--weights", "float32")
    assert cim(*words).code == 0
    feeds = feeds_for(import_model(path), 3, 2, batch=2)
    np.savez(tmp_path / "in.npz", **feeds)
    done = cim("run", program, "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz", "--json")
    assert done.code == 0, done.err
    with np.load(tmp_path / "out.npz") as made:
        wanted = expected(path, feeds)
        assert made.files == list(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(made[name], value, rtol=1e-4, atol=1e-4)
    np.savez(tmp_path / "in.npz", **(feeds | {"position_ids": np.array([[0, 1, 2]])}))
    refused = cim("run", program, "--inputs", tmp_path / "in.npz")
    assert refused.code == 1 and "counts on from 2" in refused.err


def test_bench_speed_stands_beside_onnx_runtime(cim: Cim) -> None:
    small = ("--model", "gpt2-tiny", "--target", "dcim22", "--context", 16, "--prompt", 8, "--repeat", 1)
    found = cim("bench", "speed", *small, "--json").data
    assert [step["what"] for step in found["steps"]] == ["token: 1 at 15", "prompt: 8 at 0"]
    assert all(step["ratio"] > 0 and step["instructions"] > 0 for step in found["steps"])
    assert found["peak_bytes"] > 0


def test_bench_speed_curves_over_tokens(cim: Cim, tmp_path: Path) -> None:
    out = tmp_path / "curves.svg"
    found = cim("bench", "speed-curves", "--over", "tokens", "--most", 4, "--output", out)
    assert found.code == 0 and "4.0 times as many tokens" in found.out
    assert out.read_text().startswith("<svg")


def test_bench_lists_and_measures(cim: Cim, tmp_path: Path) -> None:
    assert [row["name"] for row in cim("bench", "--json").data] == [b.name for b in BENCHMARKS]
    assert "decoders" in cim("bench").out
    write_small("gpt2", tmp_path / "m.onnx")
    (tmp_path / "MANIFEST.csv").write_text("file,group\nm.onnx,own\n")
    found = cim("bench", "frontends", "--folder", tmp_path, "--weights", "float32", "--json")
    assert found.code == 0, found.err
    (row,) = found.data
    assert (row["outcome"], row["class"], row["own_inputs"]) == ("chip", "float", True)
    decoders = cim("bench", "decoders", "--folder", tmp_path)
    assert decoders.code == 0 and decoders.out.startswith("1 equal, 0 uncompared")
    assert cim("bench", "graphs", "--folder", tmp_path).out.splitlines()[1].split()[:2] == ["own", "1"]
    nowhere = cim("bench", "frontends", "--folder", tmp_path / "none")
    assert nowhere.code == 1 and "MANIFEST.csv" in nowhere.err
    assert cim("bench", "nothing").code == 2


def test_every_benchmark_can_be_loaded() -> None:
    assert all(callable(benchmark.load()) for benchmark in BENCHMARKS)


def test_a_prompt_may_take_several_steps(capsys: pytest.CaptureFixture[str]) -> None:
    step = StepRecord(cycles=100, tokens=7, instructions=1, bound_by="cim")
    last = step.model_copy(update={"tokens": 1, "cycles": 50})
    made = Generation(tuple(range(14)), (1, 2), (), Stopped.LENGTH)
    found = stats().model_copy(update={"per_step": [step, step, last]})
    say_costs(found, made, Console())
    said = capsys.readouterr().err
    assert "prompt: 14 tokens, 200 cycles" in said and "then: 1 tokens, 50 cycles" in said


def test_generate_with_a_source(cim: Cim, tmp_path: Path) -> None:
    path, program, stats = with_source(tmp_path), tmp_path / "m.cim", tmp_path / "s.json"
    assert cim("compile", path, "-o", program, "--max-context", 16, "--max-source", 7).code == 0
    words = ("generate", program, "--prompt-ids", "1,2", "--max-new-tokens", 3)
    missing = cim(*words)
    assert missing.code == 1 and "set_source" in missing.err
    rows = np.random.default_rng(1).standard_normal((1, 5, 16)).astype(np.float32)
    np.savez(tmp_path / "source.npz", encoder_hidden_states=rows)
    done = cim(*words, "--source", tmp_path / "source.npz", "--stats", stats, "--json")
    assert done.code == 0, done.err
    assert len(done.data["tokens"]) == 3
    assert read_statistics(stats).cycles > 0
    both = ("generate", path, "--max-context", 16, "--max-source", 7, *words[2:], "--prompt-ids", "3,4")
    batch = cim(*both, "--source", tmp_path / "source.npz", "--json")
    assert batch.code == 0, batch.err
    assert batch.data["generations"][0]["tokens"] == done.data["tokens"]
    np.savez(tmp_path / "source.npz", encoder_hidden_states=np.zeros((1, 8, 16), np.float32))
    long = cim(*words, "--source", tmp_path / "source.npz")
    assert long.code == 1 and "--max-source 8" in long.err
