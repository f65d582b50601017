"""What a program says of its making."""

from __future__ import annotations

from compiler.backend.origin import text_of
from compiler.optimisations import Optimisation
from compiler.pipeline import Smoothing


def test_options_are_told_in_the_words_of_the_command_line() -> None:
    left_out = frozenset({Optimisation.RING, Optimisation.CENTRE})
    values = (Smoothing.AUTO, left_out, frozenset(), (("batch", 1), ("sequence", 8)), (), 4, None, "int8")
    told = ["auto", "centre,ring", "none", "batch=1,sequence=8", "none", "4", "None", "int8"]
    assert list(map(text_of, values)) == told
