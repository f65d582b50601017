"""Results of `cim bench speed` beside an earlier one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.speed import Speed, beside
from isa.diagnostics import CimError

NOW = [
    Speed("token: 1 at 9", 0.2, 0.1, 0.5, 100, 1.0, 0.1),
    Speed("prompt: 4 at 0", 3.0, 1.0, 2.0, 900, 1.0, 1.0),
]


def test_steps_are_set_beside_those_of_the_same_name(tmp_path: Path) -> None:
    was = Speed("token: 1 at 9", 0.4, 0.4, 1.0, 100, 1.0, 0.1)
    file = tmp_path / "was.json"
    step = {**asdict(was), "ratio": was.ratio}
    file.write_text(json.dumps({"model": "m", "target": "t", "steps": [step]}))
    title, line = beside(NOW, str(file))
    assert title == f"against {file}: m on t"
    assert line.split(None, 4)[-1] == (
        "ratio 0.60, was 0.80; of ORT's time: values 0.40, was 0.40; time 0.20, was 0.40"
    )


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"steps": [{"what": "token: 1 at 9"}], "model": "m", "target": "t"}']
)
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    for name in (file, tmp_path / "none.json"):
        with pytest.raises(CimError, match="E0001"):
            beside(NOW, str(name))
