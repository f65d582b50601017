"""The small trained model that ships, the scripts that made it, and generators of standard shapes.

`pytiny.onnx` is a Llama-style decoder on bytes, trained on CPython's standard library;
`heldout.txt` is text that it has not seen. See `README.md` for the model card.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["HELD_OUT", "PYTINY", "path"]

PYTINY = "pytiny.onnx"
"""Name of the trained model."""

HELD_OUT = "heldout.txt"
"""Name of the held-out text (UTF-8)."""


def path(name: str) -> Path:
    """Where the shipped file `name` lies; FileNotFoundError when there is none of that name."""
    found = Path(__file__).parent / name
    if not found.is_file():
        raise FileNotFoundError(f"{name} does not ship with the models package (looked for {found})")
    return found
