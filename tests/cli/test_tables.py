"""`cim isa`, `targets`, `passes`, `ops`, `explain`: tables of what there is; and the documents made from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.driver import pipeline
from compiler.optimisations import Optimisation
from isa.diagnostics import CODES
from isa.hardware import load_target
from isa.instruction import TABLE
from isa.target_files import target_names
from runtime.cli.docs import DOCS, DOCUMENTS
from tests.cli.conftest import Cim


def test_isa_lists_every_instruction(cim: Cim) -> None:
    shown = {line.split()[0] for line in cim("isa").out.splitlines()[1:]}
    assert shown == {cls.mnemonic for cls in TABLE.values()}
    assert len(cim("isa", "--json").data["instructions"]) == len(TABLE)


def test_isa_shows_one_in_full(cim: Cim) -> None:
    done = cim("isa", "MVM")
    assert done.out.startswith("mvm (opcode 0x20, unit cim)")
    assert all(word in done.out for word in ("src", "reads int8", "example", "timing", "energy"))


def test_targets_show_every_number_with_its_source(cim: Cim) -> None:
    rows = cim("targets").out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(target_names())
    full = cim("targets", "dcim22").out
    target = load_target("dcim22")
    assert target.macro.mvm_latency.source in full
    assert "macro.transposable" in full
    assert "set its numbers (`cim validate`): chih22-int8-tops, chih22-int8-tops-w." in full
    assert "No published result" in cim("targets", "isaac32").out
    assert cim("targets", "dcim22", "--json").data["macro"]["rows"]["confidence"] == "silicon"


def test_passes_are_listed_in_order(cim: Cim) -> None:
    told = cim("passes", "--json").data
    assert [step["name"] for step in told["passes"]] == [step.name for step in pipeline()]
    assert [o["name"] for o in told["optimisations"]] == [o.value for o in Optimisation]
    assert all(entry["purpose"] for entries in told.values() for entry in entries)


def test_ops_is_the_registry(cim: Cim) -> None:
    entries = cim("ops", "--json").data
    assert {"MatMul", "Softmax", "Conv"} <= {entry["operator"] for entry in entries}
    assert all(entry["note"] for entry in entries if entry["fate"] == "refused")


def test_ops_says_what_becomes_of_each_node(cim: Cim, model: Path) -> None:
    done = cim("ops", model)
    assert done.code == 0
    assert "on chip" in done.out
    assert "refused" not in done.out


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained(cim: Cim, code: str) -> None:
    done = cim("explain", code.lower())
    assert done.out.startswith(f"{code}: ")
    assert len(CODES[code].explanation) > 30


@pytest.mark.parametrize("name", DOCUMENTS)
def test_generated_documents_are_up_to_date(name: str) -> None:
    path = DOCS / name
    assert path.is_file(), f"docs/{name} is missing: make docs"
    assert path.read_text(encoding="utf-8") == DOCUMENTS[name](), f"docs/{name} is old: make docs"
