"""Byte-level text: one token a byte, 256 ids, no tokenizer files."""

from __future__ import annotations

from collections.abc import Iterable

VOCAB = 256
"""Number of ids."""


def encode(text: str) -> list[int]:
    """The UTF-8 bytes of `text` as token ids."""
    return list(text.encode("utf-8"))


def decode(ids: Iterable[int]) -> str:
    """Text from token ids; bytes that are not UTF-8 become U+FFFD. ValueError for an id above 255."""
    return bytes(ids).decode("utf-8", errors="replace")
