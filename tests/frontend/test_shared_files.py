"""Each file of the collection has a verdict, and none gets worse: matched, recognised, or refused with a reason.

`python -m tests.frontend.test_shared_files` writes the golden file anew.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.frontends import ORDER, Outcome, Verdict, examine, summary, table
from benchmarks.references import Entry, collection
from tests.frontend.oracle import SHARED

GOLDEN = Path(__file__).parents[1] / "golden" / "frontends" / "verdicts.txt"

LARGE = (
    "migraphx__attention_multihead_bias_mask_test",
    "migraphx__group_query_attention_non_packed_qkv_test",
)
"""Files whose fixed sizes (32 sequences of 512 tokens; a cache of 4096) make probes take seconds."""

FEWEST = 125
"""Files that must match: a golden file that is rewritten unnoticed proves nothing."""


def _golden() -> dict[str, str]:
    lines = GOLDEN.read_text().splitlines() if GOLDEN.is_file() else []
    return dict(line.split(": ", 1) for line in lines)


def _entries() -> list[object]:
    if not SHARED.is_dir():
        why = pytest.mark.skip(reason=f"the collected ONNX files are not at {SHARED} (set CIM_SHARED)")
        return [pytest.param(Entry(SHARED, "none", ""), marks=why)]
    return [
        pytest.param(e, id=e.file, marks=pytest.mark.slow if e.file.startswith(LARGE) else ())
        for e in collection(SHARED)
    ]


@pytest.mark.parametrize("entry", _entries())
def test_no_file_gets_worse(entry: Entry) -> None:
    verdict = examine(entry)
    assert verdict.outcome not in (Outcome.CRASHED, Outcome.DIFFERS), table([verdict])
    wanted = Outcome(_golden()[entry.file].split()[0])
    assert ORDER.index(verdict.outcome) <= ORDER.index(wanted), summary(verdict)
    if verdict.outcome is Outcome.REFUSED:
        assert all(r.code and r.message for r in verdict.reasons)


def test_the_number_of_matches_does_not_fall() -> None:
    counts = Counter(line.split()[0] for line in _golden().values())
    assert counts["matched"] >= FEWEST
    assert sum(counts.values()) == counts["matched"] + counts["recognised"] + counts["refused"]


def _write() -> None:
    verdicts: list[Verdict] = [examine(entry) for entry in collection(SHARED)]
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text("".join(f"{summary(v)}\n" for v in verdicts))
    sys.stdout.write(f"{table(verdicts)}\n")


if __name__ == "__main__":
    _write()
