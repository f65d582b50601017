"""The fast engine of values: what the reference (`runtime.engine`, `runtime.semantics`) computes, to the bit, compiled.

numba is imported when a program is run, not with this package.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["EngineKind"]


class EngineKind(StrEnum):
    """The engines that compute values; they agree."""

    AUTO = "auto"
    FAST = "fast"
    REFERENCE = "reference"
