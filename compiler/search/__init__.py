"""The mapper's choices, searched with the cost model (docs/cost.md)."""

from compiler.mapping.problem import Problem

from .choose import Found, by_rule, search
from .copies import with_copies_of_all
from .judge import Choice

__all__ = ["Choice", "Found", "Problem", "by_rule", "search", "with_copies_of_all"]
