"""The least time of a step, from a target and a model's work alone, whatever the mapping (docs/bound.md)."""

from .result import Bound, Limit, Term
from .step import bound

__all__ = ["Bound", "Limit", "Term", "bound"]
