"""Where the ONNX file fixes how long sequences are, compile for that length."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from compiler.ir.border import Border
from compiler.ir.dims import Extent
from compiler.ir.graph import Input, Role
from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class TakeLengths(Pass):
    """Take tokens and rows of a source from the shapes of the file's inputs, unless the options say how many."""

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.options`."""
        if c.border is None:
            return False
        options = c.options
        source = options.max_source or _fixed(c.border, (Role.SOURCE, Role.SOURCE_IDS, Role.CROSS))
        context = options.max_context
        if context is None and not c.require_graph().hosts:
            # Behind a host partition tokens are not what the file's inputs have.
            new, past = _fixed(c.border, (Role.IDS, Role.OTHER)), _fixed(c.border, (Role.PAST,))
            has_past = any(i.role is Role.PAST for i in c.border.inputs)
            context = new + (past or 0) if new and (past or not has_past) else None
        c.options = replace(options, max_context=context, max_source=source)
        return c.options != options


def _fixed(border: Border, roles: Collection[Role]) -> int | None:
    """The largest length that inputs of these roles have, if all are fixed."""
    lengths = [_length(i) for i in border.inputs if i.role in roles and len(i.value.shape or ()) > 1]
    return max((n for n in lengths if isinstance(n, int)), default=None) if _all_known(lengths) else None


def _all_known(lengths: Collection[Extent]) -> bool:
    return all(isinstance(length, int) for length in lengths)


def _length(given: Input) -> Extent:
    """How many tokens an input has: of [batch, tokens], [batch, tokens, features], [.., heads, tokens, depth]."""
    shape = given.value.shape or ()
    return shape[-1] if given.role in (Role.IDS, Role.SOURCE_IDS) else shape[-2]
