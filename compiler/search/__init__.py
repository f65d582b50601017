"""The mapper's choices, searched with the cost model (docs/cost.md)."""

from .choose import Found, by_rule, search
from .judge import Choice, Problem

__all__ = ["Choice", "Found", "Problem", "by_rule", "search"]
