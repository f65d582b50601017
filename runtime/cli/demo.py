"""`make demo`: the whole path on the model that ships. Each step is a command that you can type yourself."""

from __future__ import annotations

import re
import shlex
import sys
import time
from pathlib import Path

import models

from . import main as cim

OUT = Path("out")
PROMPT = "class Reader:\n    def __init__(self, path):\n"
CODE_LINES = 40
_CODE = re.compile(r"^ +\d+ +[a-z]")


def main() -> int:
    """Compile, generate, report, check, list; the exit code of the first command that fails, else 0."""
    began = time.perf_counter()
    OUT.mkdir(exist_ok=True)
    model = _short(models.path(models.PYTINY))
    program, stats = str(OUT / "pytiny.cim"), str(OUT / "stats.json")
    for words in (
        ("compile", model, "--target", "dcim22", "-o", program, "--explain"),
        ("generate", program, "--prompt", PROMPT, "--max-new-tokens", "64", "--stats", stats),
        ("report", stats, "--html", str(OUT / "report.html")),
        ("check", model, "--target", "dcim22", "--prompts", "4"),
    ):
        _announce(words)
        code = cim(words)
        if code:
            return code
    _announce(("dis", program, "--source", "--role", "attention"))
    _listing(Path(program))
    print(f"\nThat took {time.perf_counter() - began:.0f} s. Next: .venv/bin/cim --help", flush=True)
    return 0


def _short(path: Path) -> str:
    """The path from here, where that is shorter."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _announce(words: tuple[str, ...]) -> None:
    """The command, as one would type it."""
    sys.stderr.flush()
    print(f"\n$ cim {shlex.join(words)}", flush=True)


def _listing(program: Path) -> None:
    """The head of the listing and the first lines of the attention role's code."""
    from isa.binary import read_program
    from isa.disassembler import listing

    loaded = read_program(program)
    lines = listing(loaded, source=True, role="attention").splitlines()
    head = lines.index("")
    code = next(number for number, line in enumerate(lines) if _CODE.match(line))
    print("\n".join([*lines[: head + 2], "  ...", *lines[code : code + CODE_LINES], "  ..."]))
    print(f"(the listing of the whole program has {len(listing(loaded, source=True).splitlines())} lines)")


if __name__ == "__main__":
    sys.exit(main())
