"""Types of arguments on the command line, which refuse at once what cannot be meant."""

from __future__ import annotations

import argparse
import math


def positive(text: str) -> int:
    """An integer from 1 on."""
    return _at_least(text, 1)


def natural(text: str) -> int:
    """An integer from 0 on."""
    return _at_least(text, 0)


def _at_least(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is less than {least}")
    return value


def fraction(text: str) -> float:
    """A finite number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return value


def more_than_nothing(text: str) -> float:
    """A finite number above 0."""
    value = fraction(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value
