"""Programs with a source, and their KV caches, each broken in one way: what is wrong is found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from isa.assembler import assemble
from isa.verifier import findings

FOLDER = Path(__file__).parents[2] / "golden" / "verifier"
NOTHING = "add r0, r0, 0"


@dataclass(frozen=True)
class Mutant:
    """A change to a golden program, within one role ("": anywhere), and the findings there must be among others."""

    what: str
    program: str
    role: str
    changes: tuple[tuple[str, str], ...]
    found: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """The changed program."""
        text = (FOLDER / f"{self.program}.cimasm").read_text()
        start = text.index(f".role {self.role}\n") if self.role else 0
        end = text.index(".end", start) if self.role else len(text)
        part = text[start:end]
        for old, new in self.changes:
            assert old in part, old
            part = part.replace(old, new)
        return text[:start] + part + text[end:]


def loops_of(role: str) -> tuple[str, str]:
    """The text of both loops of a role of good-cross, each from the count on."""
    text = (FOLDER / "good-cross.cimasm").read_text()
    text = text[text.index(f".role {role}\n") :]
    second = text.index("  sys    r1, segments")
    return text[text.index("  sys    r1, sources") : second], text[second : text.index("  halt")]


APPENDED = "not surely appended"
DIFFER = "its ends differ in their messages"
TO_TOKENS = (("sys    r1, sources", "sys r1, segments"), ("sseg   r2", "seg r2"))
LOOK = """
    sys r21, sequence
    mul r21, r21, 20
    sys r22, tokens
    mvmt a0, [3072], [1024], r3, r21, r22
"""
LAST = """
    sub r20, r1, r2
    sub r20, r20, 1
    sseg r20
"""
FIRST, SECOND = loops_of("head")
MUTANTS = (
    Mutant(
        "a receive of the source is left out",
        "good-cross",
        "head",
        (("recv   p0, [64], r3, 16", NOTHING),),
        (("E0404", "not all of them surely written"), ("E0405", DIFFER)),
    ),
    Mutant(
        "the sender goes over the tokens", "good-cross", "hub", TO_TOKENS, (("E0405", "each source segment"),)
    ),
    Mutant("the receivers go over the tokens", "good-cross", "head", TO_TOKENS, (("E0405", DIFFER),)),
    Mutant(
        "all go over the tokens",
        "good-cross",
        "",
        TO_TOKENS,
        (("E0404", APPENDED), ("E0405", "the host: [16*source")),
    ),
    Mutant(
        "the tokens come first",
        "good-cross",
        "head",
        ((FIRST + SECOND, SECOND.replace("done", "first") + FIRST),),
        (("E0404", APPENDED), ("E0406", "loops wait for each other as wholes")),
    ),
    Mutant(
        "keys are not appended",
        "good-cross",
        "head",
        (("wrow   a0", f"{NOTHING} ; a0"),),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "values are not appended",
        "good-cross",
        "head",
        (("wrow   a1", f"{NOTHING} ; "),),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "rows are appended one too early",
        "good-cross",
        "head",
        (("add    r6, r6, r4", "add r6, r6, r4\n sub r6, r6, 1\n max r6, r6, 0"),),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "only some rows are appended",
        "good-cross",
        "head",
        (("[1024], [1280], r3, r6", "[1024], [1280], r0, r6"),),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "rows are appended if there are many",
        "good-cross",
        "head",
        (("  wrow   a0", "  blt r3, 2, few\n  wrow   a0"), ("  written:", "  few:\n  written:")),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "rows are appended for the first segment alone",
        "good-cross",
        "head",
        (("sseg   r2", "mul r20, r2, 0\n sseg r20"),),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "the other sequence's rows are used",
        "good-cross",
        "head",
        (("add    r11, r11, r6", "add r11, r11, 0"),),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "a token's rows are looked for in a pass over the source",
        "good-cross",
        "head",
        (("    wrow   a1", f"    seg r0\n{LOOK}    sseg r2\n    wrow   a1"),),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "rows are looked for in the order from the last",
        "good-cross",
        "head",
        (("    wrow   a1", f"{LAST}{LOOK}    sseg r2\n    wrow   a1"),),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "as many rows are used as there are tokens",
        "good-cross",
        "head",
        (("sys    r7, source ", "sys r7, tokens"),),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "more rows than the source has",
        "good-cross",
        "head",
        (("sys    r7, source ", "sys r7, end"),),
        (("E0403", "which has 40"), ("E0404", APPENDED)),
    ),
    Mutant(
        "both passes of the encoder are one",
        "good-whole",
        "encoder",
        (("  first:\n  loop   r2, r1, second\n    sseg   r2\n", ""), ("r1, first", "r1, second")),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "the decoder takes what the encoder sends with the tokens",
        "good-whole",
        "decoder",
        TO_TOKENS,
        (("E0405", "each source segment"),),
    ),
    Mutant(
        "the host gets the rows that are wanted, of which a source segment has none",
        "good-encoded",
        "passer",
        (("    sys    r3, tokens\n    sub", "    sys    r3, outputs\n    sub"),),
        (("E0405", DIFFER),),
    ),
    Mutant(
        "the host gets all rows that the source has",
        "good-encoded",
        "passer",
        (("send   p1, [0], r3", "add r3, r3, r4\n    send p1, [0], r3"),),
        (("E0405", "the host: [16*source.tokens] each source segment; tile passer: [16*source.end]"),),
    ),
    Mutant(
        "the host gets rows of the source with the tokens",
        "good-encoded",
        "passer",
        (("    send   p1, [0], r3, 16\n", ""), ("send   p3", "send p1, [0], r3, 16\n    send p3")),
        (
            (
                "E0405",
                "the host: [16*source.tokens] each source segment; tile passer: [16*tokens] each segment",
            ),
        ),
    ),
    Mutant(
        "the host gets rows of the tokens with the source",
        "good-encoded",
        "passer",
        (("    send   p3, [0], r5, 16\n", ""), ("send   p1", "send p3, [0], r3, 16\n    send p1")),
        (
            (
                "E0405",
                "the host: [16*outputs] each segment; tile passer: [16*source.tokens] each source segment",
            ),
        ),
    ),
    Mutant(
        "the host's stream is of the tokens",
        "good-encoded",
        "",
        (
            ("encoded out f32 columns 32 source", "encoded out f32 columns 32"),
            (".output encoded source", ".output encoded rows"),
        ),
        (("E0405", "the host: [16*outputs] each segment; tile encoder: [16*source.tokens]"),),
    ),
    Mutant(
        "an output of the source has rows of the tokens",
        "good-encoded",
        "",
        ((".output y rows", ".output y source"),),
        (("E0410", "it has rows of the source, and stream y goes with the tokens"),),
    ),
    Mutant(
        "the host gets no row of the source",
        "good-encoded",
        "passer",
        (("    send   p1, [0], r3, 16\n", ""),),
        (("E0405", "tile passer: nothing"),),
    ),
    Mutant("there is no source", "good-whole", "", ((" source=20", ""),), (("E0410", "max_source 0"),)),
    Mutant(
        "a token looks at later ones",
        "good-attention",
        "attention",
        (("add    r8, r4, r3 ", "sys r8, end"),),
        (("E0404", APPENDED),),
    ),
    Mutant(
        "tokens look at the cache before they are in it",
        "good-attention",
        "attention",
        (("wrow   a0, [3072], [3200], r3, r7", NOTHING),),
        (("E0404", APPENDED),),
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_what_is_broken_is_found(mutant: Mutant) -> None:
    found = [d.render() for d in findings(assemble(mutant.text()))]
    for code, words in mutant.found:
        assert any(f"error[{code}]" in text and words in text for text in found), found


def test_loops_over_no_source_are_not_looked_at() -> None:
    """With max_source 0 a loop over source segments never runs, whatever is in it."""
    text = (FOLDER / "bad-source-deadlock.cimasm").read_text()
    assert [d.code for d in findings(assemble(text))] == ["E0406"]
    assert findings(assemble(text.replace(" source=20", ""))) == ()


def test_a_cache_that_the_host_fills() -> None:
    """Without rows of a source, what tokens look at has been put there by the host, as far as `sys source` goes."""
    text = (FOLDER / "good-given.cimasm").read_text()
    assert findings(assemble(text)) == ()
    found = findings(assemble(text.replace("sys    r7, source", "sys r7, tokens")))
    assert {d.code for d in found} == {"E0404"}
    assert all(APPENDED in d.message for d in found)
