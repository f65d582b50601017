"""The pipeline verifies what each pass made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from compiler.pipeline import Compilation, Moment, Pass, run_pipeline
from compiler.verify_each import VerifyEach
from isa.diagnostics import CimError

from .building import mapping_of, tiny
from .graphs import decoder


@dataclass(frozen=True)
class LoseANode(Pass):
    """Drops the first operator, whose value others still read."""

    def run(self, c: Compilation) -> bool:
        graph = c.require_graph()
        c.graph = replace(graph, nodes=graph.nodes[1:])
        return True


@dataclass(frozen=True)
class LoseAChannel(Pass):
    """Drops a channel of the mapping."""

    def run(self, c: Compilation) -> bool:
        mapping = c.require_mapping()
        c.mapping = replace(mapping, channels=mapping.channels[1:])
        return True


def test_a_pass_that_breaks_the_graph_is_found() -> None:
    with pytest.raises(CimError, match=r"E0205.*is not made before it is used"):
        run_pipeline([LoseANode()], Compilation(Path("m.onnx"), graph=decoder()), VerifyEach())


def test_a_pass_that_breaks_the_mapping_is_found() -> None:
    broken = Compilation(Path("m.onnx"), mapping=mapping_of(decoder(), tiny()))
    with pytest.raises(CimError, match=r"(?s)E0410.*is on no channel"):
        run_pipeline([LoseAChannel()], broken, VerifyEach())


def test_the_callback_inside_is_called_all_the_same() -> None:
    seen: list[tuple[Moment, str]] = []
    verify = VerifyEach(lambda moment, step, c: seen.append((moment, step.name)))
    run_pipeline([], Compilation(Path("m.onnx")), verify)
    with pytest.raises(CimError):
        run_pipeline([LoseANode()], Compilation(Path("m.onnx"), graph=decoder()), verify)
    assert seen == [(Moment.BEFORE, "lose-a-node")]
