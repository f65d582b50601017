"""What is said of a target that does not follow the schema: a message, its place and a way out for each thing wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from .diagnostics import Diagnostic, NamedPlace

_MOST_SHOWN = 60  # characters of a value

_QUANTITY = 'a quantity is written { value = 1.0, unit = "ns", source = "...", confidence = "assumed" }'
_KEYS = "isa/targets/tiny.toml has all keys that must be there, docs/macros.md the others of a macro"

# By the kind of problem (pydantic's): what is wrong, if pydantic's words do not say it to a user, and what to do.
_KINDS: Mapping[str, tuple[str, str]] = {
    "missing": ("it is missing", f'write it, or take it from a target: based_on = "dcim22"; {_KEYS}'),
    "extra_forbidden": ("there is no such key", f"take it out, or look for a misspelt name: {_KEYS}"),
    "string_pattern_mismatch": (
        "not a name of a target",
        "names are small letters, digits, - and _, with a letter at the front",
    ),
    "model_type": ("not a table", _QUANTITY),
    "bool_type": ("must be true or false", "write true or false, without quotes"),
    "bool_parsing": ("must be true or false", "write true or false, without quotes"),
    "float_type": ("must be a number", _QUANTITY),
    "float_parsing": ("must be a number", _QUANTITY),
    "string_type": ("must be a text", "put it in quotes"),
    "enum": ("", "take one of those, in quotes"),
    "tuple_type": ("must be a list", 'a list is written ["one", "two"]'),
}


def diagnostics_of(error: ValidationError, place: str) -> list[Diagnostic]:
    """E0502 for each thing wrong, at its key in the file `place`."""
    found = []
    for problem in error.errors():
        said, way_out = _KINDS.get(problem["type"], ("", ""))
        message = said or problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if problem["type"] == "enum":
            message = f"must be {message}"
        key = ".".join(str(part) for part in problem["loc"])
        is_own = problem["type"] == "value_error"  # by our own validators, which say what must be
        found.append(
            Diagnostic(
                "E0502",
                message + _given(problem["input"]),
                NamedPlace(place, key),
                help=way_out or (_help_for(problem["input"]) if is_own else _QUANTITY),
            )
        )
    return found


def _given(value: Any) -> str:
    """What stands there, if it can be shown in a few words: a value or a quantity, no table."""
    if isinstance(value, Mapping):
        if not {"value", "unit"} <= value.keys():
            return ""
        shown = f"{value['value']} {value['unit']}"
    else:
        shown = repr(value)
    if len(shown) > _MOST_SHOWN:
        shown = shown[:_MOST_SHOWN] + "..."
    return f" (given: {shown})"


def _help_for(value: Any) -> str:
    """The way out where a validator of ours has said what is wrong, with a quantity or with several keys of a table."""
    if isinstance(value, Mapping) and "unit" in value:
        return "change its value or its unit: " + _QUANTITY
    return "change one of the keys named, here or in the target that this one is based on"
