"""How numbers are said."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """A number of bytes, in the largest unit of which there is one."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:,.1f} {_UNITS[unit]}" if unit else f"{count:,.0f} bytes"


def share(part: float, whole: float) -> str:
    """A part of a whole, in per cent."""
    percent = 100 * part / whole if whole else 0.0
    if percent > 99.5 and part < whole:
        return f"{percent:.1f} %"
    return f"{percent:.0f} %" if percent >= 1 or not part else "under 1 %"


def several(count: int, one: str, many: str = "") -> str:
    """`1 tile`, `2 tiles`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1]))) if items else ""


def sentence(text: str) -> str:
    """The text with a capital letter at its beginning and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def span(numbers: Sequence[int]) -> str:
    """`5`, or `3 to 5`."""
    least, most = min(numbers), max(numbers)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
