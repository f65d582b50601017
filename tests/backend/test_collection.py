"""Each file of the collection on the chip: compiled, simulated on its own inputs, compared. None gets worse.

`python -m tests.backend.test_collection` writes the golden files anew.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import chip, decoders
from benchmarks.judging import Arithmetic
from benchmarks.references import Entry, collection
from tests.frontend.oracle import SHARED

GOLDEN = Path(__file__).parents[1] / "golden" / "frontends"
FILES, DECODERS = GOLDEN / "chip.txt", GOLDEN / "decoders.txt"

SAMPLE = (
    *("burn__attention_4d", "gen_dynamo__bert_op24", "gen_dynamokv__gpt2_past_op24"),
    *("gen_genai__llama_int4_model", "gen_optimum__llama3rope_past_model", "gen_optimum__qwen3_past_model"),
    *("gen_optimum__t5_past_decoder_model", "gen_optimum__vit_nopast_model", "gen_quant__bert_static_qop"),
    *("gen_optimum__whisper_past_decoder_with_past_model", "ort__gpt2_past_one_layer"),
    *("ort__hf_fp16_decoder_attention_with_past", "onnxgenai__tiny-llm_model"),
)
"""Of every kind one file, for the fast tests; all of them take minutes."""

TALKING = (
    *("gen_dynamo__gemma2_op23", "gen_genai__whisper_fp32_decoder", "gen_optimum__llama_past_model"),
    *("gen_optimum__t5_past_decoder_model_merged", "gen_quant__llama_past_int4qdq"),
)
"""Decoders that generate in the fast tests."""

FEWEST_ON_CHIP, FEWEST_TALKING = 130, 50
"""Files that must match: a golden file that is rewritten unnoticed proves nothing."""


def _golden(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines() if path.is_file() else []
    return dict(line.split(": ", 1) for line in lines)


def _entries(fast: tuple[str, ...]) -> list[object]:
    if not SHARED.is_dir():
        why = pytest.mark.skip(reason=f"the collected ONNX files are not at {SHARED} (set CIM_SHARED)")
        return [pytest.param(Entry(SHARED, "none", ""), marks=why)]
    quick = {name for name in fast}
    return [
        pytest.param(e, id=e.file, marks=() if e.model.stem in quick else pytest.mark.slow)
        for e in collection(SHARED)
    ]


@pytest.mark.parametrize("arithmetic", Arithmetic, ids=lambda a: a.value)
@pytest.mark.parametrize("entry", _entries(SAMPLE))
def test_no_file_gets_worse(entry: Entry, arithmetic: Arithmetic) -> None:
    verdict = chip.examine(entry, arithmetic)
    assert verdict.outcome not in (chip.Outcome.CRASHED, chip.Outcome.DIFFERS), chip.table([verdict])
    wanted = chip.Outcome(_golden(FILES)[f"{entry.file} {arithmetic.value}"].split()[0])
    assert chip.ORDER.index(verdict.outcome) <= chip.ORDER.index(wanted), chip.table([verdict])
    if verdict.outcome is chip.Outcome.REFUSED:
        assert all(reason.code and reason.message for reason in verdict.reasons)


@pytest.mark.parametrize("entry", _entries(TALKING))
def test_decoders_generate_what_onnx_runtime_does(entry: Entry) -> None:
    verdict = decoders.examine(entry)
    wanted = _golden(DECODERS).get(entry.file)
    assert (verdict is None) is (wanted is None)
    if verdict is None or wanted is None:
        return
    assert verdict.outcome not in (decoders.Outcome.CRASHED, decoders.Outcome.DIFFERS), decoders.table(
        [verdict]
    )
    best = decoders.Outcome(wanted.split()[0])
    assert decoders.ORDER.index(verdict.outcome) <= decoders.ORDER.index(best), decoders.table([verdict])


def test_the_number_of_matches_does_not_fall() -> None:
    counts = Counter((key.split()[1], text.split()[0]) for key, text in _golden(FILES).items())
    for arithmetic in Arithmetic:
        assert counts[arithmetic.value, "chip"] + counts[arithmetic.value, "host"] >= FEWEST_ON_CHIP
        assert not counts[arithmetic.value, "differs"] + counts[arithmetic.value, "crashed"]
    talking = Counter(text.split()[0] for text in _golden(DECODERS).values())
    assert talking["equal"] >= FEWEST_TALKING
    assert not talking["differs"] + talking["crashed"]


def _write() -> None:
    found = [chip.examine(entry, arithmetic) for entry in collection(SHARED) for arithmetic in Arithmetic]
    lines = [f"{v.file} {v.arithmetic.value}: {chip.summary(v)}\n" for v in found]
    FILES.write_text("".join(lines))
    talking = list(decoders.examine_all(SHARED))
    DECODERS.write_text("".join(f"{v.file}: {decoders.summary(v)}\n" for v in talking))
    sys.stdout.write(f"{chip.table(found)}\n\n{decoders.table(talking)}\n")


if __name__ == "__main__":
    _write()
