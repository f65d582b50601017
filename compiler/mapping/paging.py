"""How many pages the KV arrays of tokens have, where sequences share them, and how many rows a page."""

from __future__ import annotations

from dataclasses import replace

from isa.diagnostics import fail
from isa.hardware import Hardware
from isa.program import Limits

PAGES = 8
"""Pages of a sequence of the longest context, where macros allow it: half of one is left empty on average."""


def page_rows_for(limits: Limits, hardware: Hardware, block: int) -> int:
    """Rows of a page: whole macros, `PAGES` of them for the longest sequence, and no more than a KV block of `block`.

    Attention works page by page, so a page is a KV block.
    """
    wanted = min(limits.max_context // PAGES, block)
    return max(wanted // hardware.macro_rows, 1) * hardware.macro_rows


def with_pages(limits: Limits, tokens: int | None, page_rows: int) -> Limits:
    """The limits of a program whose sequences share KV arrays with room for `tokens` tokens, in pages.

    Without pages where every sequence can have a full context of its own (`tokens` None, or enough for all). Raises
    `CimError` E0305 where not even one sequence could.
    """
    if tokens is None:
        return limits
    one = -(-limits.max_context // page_rows)
    pages = -(-tokens // page_rows)
    if pages < one:
        raise fail(
            "E0305",
            f"--kv-tokens {tokens:,} is less than one sequence can have, {limits.max_context:,}",
            help=f"--kv-tokens {one * page_rows} or more, or --max-context {pages * page_rows} or less",
        )
    if pages >= one * limits.sequences:
        return limits
    return replace(limits, pages=pages, page_rows=page_rows)
