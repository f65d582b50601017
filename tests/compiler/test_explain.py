"""What `--explain` says: the whole text for a small model, and the sentences that matter for a larger one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler.driver import compile_model
from compiler.explain import Heading, Note
from compiler.explain.helps import LEVERS, changed
from compiler.explain.note import as_data, as_text
from compiler.explain.words import listed, several, share, size, span
from compiler.optimisations import Optimisation
from compiler.pipeline import Compilation, CompileOptions
from isa.hardware import load_target
from models.make import make

TINY = load_target("tiny")


def _compiled(
    tmp_path: Path, name: str, layers: int | None, target: str, options: CompileOptions
) -> Compilation:
    path = tmp_path / f"{name}.onnx"
    make(name, path, shapes_only=True, layers=layers)
    return compile_model(path, options, load_target(target))


def _said(compilation: Compilation, heading: Heading) -> str:
    return "\n".join(note.text for note in compilation.notes if note.heading is heading)


def _steady(text: str) -> str:
    """The text without what moves as the compiler gets better: numbers, and the order of what is ranked by them."""
    text = re.sub(
        r"(Its critical path|save of that|takes at least [\d,]+ cycles|Beside it): .*", r"\1: ...", text
    )
    text = re.sub(r": (\d+ of )?[\d,]+ x [\d,]+[^;.]*\)(?=[;.])", ": ...)", text)
    text = re.sub(r"(buffer|memory|table) of \w+ \(", r"\1 of ... (", text)
    return re.sub(r"\d[\d,]*(\.\d+)?", "#", text)


def test_the_whole_text(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    without = frozenset({Optimisation.SEARCH})  # what is weighed moves with every cycle
    options = CompileOptions(max_context=64, shapes_only=True, explain=True, without=without)
    compilation = _compiled(tmp_path, "llama-tiny", None, "tiny", options)
    kept = [Note(note.heading, _steady(note.text)) for note in compilation.notes]
    golden("explain/llama-tiny.txt", as_text(kept) + "\n")


@pytest.mark.slow
def test_what_is_said_of_a_larger_model(tmp_path: Path) -> None:
    options = CompileOptions(max_context=32768, shapes_only=True, explain=True)
    compilation = _compiled(tmp_path, "llama-3-8b", 2, "dcim22-system", options)
    needs, places = _said(compilation, Heading.NEEDS), _said(compilation, Heading.PLACES)
    assert "2 x attention of 32 heads of 128 columns on 8 KV heads" in needs
    assert "2 x feed-forward section 4,096 -> 2 x 14,336 -> 4,096" in needs
    assert "a linear layer 4,096 -> 128,256, the output" in needs
    assert "A token adds 4,096 bytes of keys and values; 1 sequence of 32,768 tokens make 128.0 MiB" in needs
    assert "hold 8.0 GiB" in needs and "both fit at once" in needs
    assert re.search(r"Layer 0, [\d,]+ tiles, on \d+ chips: .*attention and its KV cache", places)
    assert "Behind the last layer" in places and "pipeline" in places and "tensor split" in places
    assert re.search(r"KV cache of \d layers?: resident in arrays, each head dealt over \d+ tiles", places)
    why = _said(compilation, Heading.CHOICES)
    assert "Weights stay in the arrays. Streamed, a token's step would load" in why
    assert re.search(r"A layer has 218,103,808 weights and 67,108,864 bytes .* takes 9 chips at least", why)
    assert "mappings were predicted" in why and re.search(r"(chips|tokens a segment): .* taken", why)
    assert "the plain cut" in why and "columns a tile" in why and "Placement: all on the chip" in why
    binds = _said(compilation, Heading.BINDS)
    assert "because of the host link" in binds
    assert re.search(r"A token with this mapping: predicted [\d,]+ cycles .* x the bound", binds)
    first = _said(compilation, Heading.HELPS).splitlines()[0]
    assert "would save of that: twice the host link's bandwidth (host_link.bandwidth)" in first
    assert "macros on tiles that work" in _said(compilation, Heading.ROOM)


def test_nothing_is_worked_out_unless_asked_for(tmp_path: Path) -> None:
    options = CompileOptions(max_context=64, shapes_only=True)
    compilation = _compiled(tmp_path, "llama-tiny", None, "tiny", options)
    assert not _said(compilation, Heading.BINDS) and not _said(compilation, Heading.HELPS)


def test_notes_stand_under_their_headings_once() -> None:
    notes = [Note(Heading.CHOICES, "b."), Note(Heading.NEEDS, "a."), Note(Heading.CHOICES, "b.")]
    assert as_text(notes) == "What the model needs\n  a.\n\nWhy\n  b."
    assert as_data(notes) == [
        {"heading": "Why", "text": "b."},
        {"heading": "What the model needs", "text": "a."},
    ]


@pytest.mark.parametrize("lever", LEVERS, ids=lambda lever: f"{lever.section}.{lever.key}")
def test_a_change_is_of_one_number(lever: object) -> None:
    assert lever in LEVERS
    (known,) = [one for one in LEVERS if one is lever]
    before, after = TINY.model_dump(), changed(TINY, known).model_dump()
    value = before[known.section][known.key]["value"]
    assert after[known.section][known.key]["value"] == max(value * known.factor, min(value, 1))
    before[known.section].pop(known.key), after[known.section].pop(known.key)
    assert before == after


def test_numbers_in_words() -> None:
    assert [size(n) for n in (5, 2048, 3 << 30)] == ["5 bytes", "2.0 KiB", "3.0 GiB"]
    assert [share(*pair) for pair in ((0, 5), (1, 1000), (1, 2), (999, 1000), (3, 3))] == [
        "0 %",
        "under 1 %",
        "50 %",
        "99.9 %",
        "100 %",
    ]
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["", "a", "a, b and c"]
    assert [several(1, "tile"), several(2000, "tile"), span([3, 3]), span([5, 3])] == [
        "1 tile",
        "2,000 tiles",
        "3",
        "3 to 5",
    ]
