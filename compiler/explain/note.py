"""What passes have to say about a compilation, each under a heading."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from textwrap import fill

WIDTH = 110


class Heading(Enum):
    """The parts of an explanation, in their order; the value is what a person reads."""

    NEEDS = "What the model needs"
    PLACES = "What lies where"
    CHOICES = "Why"
    BINDS = "What binds"
    ROOM = "Room"
    HELPS = "What would help most"


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph of an explanation."""

    heading: Heading
    text: str


def as_text(notes: Iterable[Note]) -> str:
    """The notes as plain text: heading by heading, each note an indented paragraph."""
    found: dict[Heading, list[str]] = {heading: [] for heading in Heading}
    for note in notes:
        if note.text not in found[note.heading]:
            found[note.heading].append(note.text)
    parts = [
        "\n".join([heading.value, *(_paragraph(text) for text in texts)])
        for heading, texts in found.items()
        if texts
    ]
    return "\n\n".join(parts)


def as_data(notes: Iterable[Note]) -> list[dict[str, str]]:
    """The notes as JSON keeps them."""
    return [{"heading": note.heading.value, "text": note.text} for note in dict.fromkeys(notes)]


def _paragraph(text: str) -> str:
    return fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
