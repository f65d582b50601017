"""The mapper's choices, searched with the cost model (docs/cost.md)."""

from compiler.mapping.problem import Problem

from .choose import Found, by_rule, search
from .judge import Choice

__all__ = ["Choice", "Found", "Problem", "by_rule", "search"]
