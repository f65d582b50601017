"""The map of the chips: which tile does what. A system of many chips is an overview beside one chip in full."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime.amounts import count
from runtime.sinks.schema import Statistics, TileMap
from runtime.svg import COLOURS, element, group, inline, path, rect, text, tooltip
from runtime.svg.theme import colour

from .charts import figure, legend
from .tags import Cell, Row, details, number, section, table, tag
from .tags import text as text_of

_SIDE = 640  # user units of the chip's width
_LETTER = 7.4  # units of a letter
_NAMED = 34  # units of a cell from which on it has words
_EACH = 4096  # tiles of a chip up to which each has a tooltip of its own
_OUTSIDE = 2  # the colour of what is of no layer: grey
_LAYERS = tuple(n for n in range(len(COLOURS)) if n != _OUTSIDE)
_FEW = 16  # roles that are shown without being asked for
_NUMBER = re.compile(r"_\d+$")


def family(role: str) -> str:
    """`attention_2` and `attention` are of one family: they differ in shapes alone."""
    return _NUMBER.sub("", role)


@dataclass(frozen=True, slots=True)
class Placed:
    """A tile at its place on its chip."""

    chip: int
    x: int
    y: int
    name: str
    role: int
    label: int


class Layout:
    """The tiles by chip, and the colours of families of roles."""

    def __init__(self, tile_map: TileMap) -> None:
        self.map = tile_map
        self.columns, self.rows = tile_map.tiles
        families = [family(role.name) for role in tile_map.roles]
        self.families = list(dict.fromkeys(families))
        self.family_of = [self.families.index(name) for name in families]
        self.by_chip: dict[int, list[Placed]] = defaultdict(list)
        for tile in self._placed():
            self.by_chip[tile.chip].append(tile)

    def _placed(self) -> Iterator[Placed]:
        m = self.map
        for number_, (left, top) in enumerate(m.corners):
            for n, (x, y, role, label) in enumerate(zip(m.x, m.y, m.role, m.label, strict=True)):
                name = m.names[n] if m.names else f"t{n}"
                name += f" of copy {number_}" if number_ else ""
                (column, x), (row, y) = divmod(x + left, self.columns), divmod(y + top, self.rows)
                yield Placed(row * m.chips[0] + column, x, y, name, role, label)

    @property
    def is_fine(self) -> bool:
        """Whether a chip has too many tiles to draw each with words of its own; the script finds them then."""
        return self.columns * self.rows > _EACH

    @property
    def letters(self) -> int:
        """How many letters fit in a cell of a chip's drawing."""
        return int(_SIDE / self.columns * 0.84 / _LETTER)

    def macros(self, tile: Placed) -> int:
        """Macros of a tile that hold data."""
        return sum(self.map.roles[tile.role].macros.values())

    def words(self, tile: Placed) -> str:
        """What a tile is, in a line."""
        role = self.map.roles[tile.role]
        kinds = ", ".join(f"{n} {kind}" for kind, n in role.macros.items())
        held = f"{self.macros(tile)} of {self.map.macros_per_tile} macros" + (f" ({kinds})" if kinds else "")
        return f"{tile.name} · {role.name} · {self.map.labels[tile.label]} · {held}"

    def chip_words(self, chip: int) -> str:
        """What a chip holds, in a line."""
        tiles = self.by_chip[chip]
        roles = Counter(self.families[self.family_of[tile.role]] for tile in tiles)
        held = ", ".join(f"{n} {name}" for name, n in roles.most_common())
        used = sum(map(self.macros, tiles))
        labels = list(dict.fromkeys(self.map.labels[tile.label] for tile in tiles))
        layers = labels[0] if len(labels) == 1 else f"{labels[0]} … {labels[-1]}" if labels else ""
        return f"{self.chip_name(chip)}: {count(len(tiles), 'tile')}: {held}; {used:,} macros with data; {layers}"

    def chip_name(self, chip: int) -> str:
        """`chip (3, 4)`: column and row in the grid of chips."""
        row, column = divmod(chip, self.map.chips[0])
        return f"chip ({column}, {row})"


def mapping(stats: Statistics) -> str:
    """The section."""
    if not stats.tile_map.x:
        return section("mapping", "Mapping", intro="No tile is in use: the host runs the whole model.")
    layout = Layout(stats.tile_map)
    chips = stats.tile_map.chips[0] * stats.tile_map.chips[1]
    first = min(layout.by_chip, default=0)
    names = [(name, n) for n, name in enumerate(layout.families)]
    parts = [_choice(), tag("div", legend([*names, ("no role", None)]), id="roles"), _note()]
    if chips > 1:
        parts.append(tag("div", _overview(layout), _detail(layout, first), class_="halves map"))
        parts.append(_families(layout))
    else:
        parts.append(tag("div", _detail(layout, first), _families(layout), class_="halves map"))
    parts.append(tag("script", _data(layout), type="application/json", id="tiles"))
    return section(
        "mapping",
        "Mapping",
        *parts,
        intro="Each square is a tile, coloured by its role; the bar in it says how many of its macros hold data. Rest "
        "on a tile, or tap it, for its name, role, layer and macros."
        + (" Choose a chip in the overview to see its tiles." if chips > 1 else ""),
    )


def _choice() -> str:
    """What colours mean; scripts make it work."""
    options = (tag("option", text_of(name), value=name) for name in ("role", "layer"))
    choice = tag("label", "Colour by ", tag("select", *options, id="paint"))
    return tag("form", choice, class_="controls", id="choice", hidden=True)


def _note() -> str:
    """What the colours of layers are."""
    note = (
        f"Colours follow the first layer that a tile holds, and repeat after {len(_LAYERS)}; grey is outside of "
        "layers. The words in a tile say which."
    )
    return tag("p", text_of(note), id="layers-note", class_="note", hidden=True)


def _layer_class(label: str) -> str:
    match = re.match(r"layers? (\d+)", label)
    return f"fill-{_LAYERS[int(match[1]) % len(_LAYERS)]}" if match else f"fill-{_OUTSIDE}"


def _overview(layout: Layout) -> str:
    """All chips, their tiles as squares of colour; each chip is a link that shows it in full."""
    columns, rows = layout.map.chips
    gap, wide, high = 1.5, layout.columns + 1.5, layout.rows + 1.5
    body = []
    for chip in range(columns * rows):
        row, column = divmod(chip, columns)
        paths = _paths(layout, layout.by_chip.get(chip, ()))
        ground = rect(0, 0, layout.columns, layout.rows, class_="empty")
        place = f"translate({column * wide + gap:g} {row * high + gap:g})"
        drawn = group(
            tooltip(
                layout.chip_words(chip)
                if layout.by_chip.get(chip)
                else f"{layout.chip_name(chip)}: not in use"
            ),
            ground,
            *paths,
            rect(0, 0, layout.columns, layout.rows, class_="frame"),
            transform=place,
        )
        body.append(
            element("a", drawn, href="#chip", data_chip=chip, class_="chip", tabindex=0 if not chip else -1)
        )
    width, height = columns * wide + gap, rows * high + gap
    label = f"{columns} x {rows} chips of {layout.columns} x {layout.rows} tiles"
    return figure(inline(width, height, body, label, "plot overview"), f"All chips: {label}.", class_="chart")


def _paths(layout: Layout, tiles: Sequence[Placed]) -> Iterator[str]:
    """One path for all tiles of a family."""
    by: dict[int, list[Placed]] = defaultdict(list)
    for tile in tiles:
        by[layout.family_of[tile.role]].append(tile)
    for number_, members in sorted(by.items()):
        yield path("".join(_runs(members)), class_=f"fill-{colour(number_)}")


def _runs(tiles: Sequence[Placed]) -> Iterator[str]:
    """Squares of one unit, those beside each other as one rectangle."""
    left = sorted((tile.y, tile.x) for tile in tiles)
    at = 0
    while at < len(left):
        end = at + 1
        while end < len(left) and left[end] == (left[at][0], left[at][1] + end - at):
            end += 1
        yield f"M{left[at][1]} {left[at][0]}h{end - at}v1h-{end - at}z"
        at = end


def _detail(layout: Layout, chip: int) -> str:
    """One chip: a cell for each place on its mesh."""
    size = _SIDE / layout.columns
    tiles = {(tile.x, tile.y): tile for tile in layout.by_chip.get(chip, ())}
    width, height = _SIDE, size * layout.rows
    if layout.is_fine:
        paths = _paths(layout, list(tiles.values()))
        drawn = [
            rect(0, 0, width, height, class_="empty"),
            group(*paths, transform=f"scale({size:g})", class_="fine"),
        ]
    else:
        places = [(x, y) for y in range(layout.rows) for x in range(layout.columns)]
        drawn = [_cell(layout, tiles.get(place), place, size) for place in places]
    label = f"Tiles of {layout.chip_name(chip)}"
    drawing = inline(width, height, drawn, label, "plot detail")
    shown = tag("output", text_of(layout.chip_words(chip)) if tiles else "", id="chip-words")
    caption = f"A chip of {layout.columns} x {layout.rows} tiles of {layout.map.macros_per_tile} macros."
    return tag("div", figure(drawing, caption, shown, class_="chart"), id="chip")


def _cell(layout: Layout, tile: Placed | None, place: tuple[int, int], size: float) -> str:
    """A tile: its colour, the macros that hold data as a bar, and where there is room, its role and layer."""
    x, y = place[0] * size, place[1] * size
    inner = size * 0.94
    if tile is None:
        square = rect(x, y, inner, inner, class_="square empty", rx=size * 0.06)
        return group(
            tooltip(f"({place[0]}, {place[1]}): no role"), square, *_empty_words(x, y, size), class_="cell"
        )
    number_, letters = layout.family_of[tile.role], layout.letters
    used = layout.macros(tile) / layout.map.macros_per_tile
    parts = [
        tooltip(layout.words(tile)),
        rect(x, y, inner, inner, class_=f"square fill-{colour(number_)}", rx=size * 0.06),
        rect(x + size * 0.08, y + size * 0.8, size * 0.78 * used, size * 0.07, class_="used"),
    ]
    if size >= _NAMED:
        parts += [
            text(x + size * 0.08, y + size * 0.34, layout.families[number_][:letters], class_="role"),
            text(
                x + size * 0.08,
                y + size * 0.62,
                _short(layout.map.labels[tile.label])[:letters],
                class_="label",
            ),
        ]
    return group(*parts, class_="cell")


def _empty_words(x: float, y: float, size: float) -> list[str]:
    if size < _NAMED:
        return [rect(x, y, 0, 0, class_="used")]
    return [
        rect(x + size * 0.08, y + size * 0.8, 0, size * 0.07, class_="used"),
        text(x + size * 0.08, y + size * 0.34, "", class_="role"),
        text(x + size * 0.08, y + size * 0.62, "", class_="label"),
    ]


def _short(label: str) -> str:
    """`layer 3` as `L3`, `layers 0, 1` as `L0,1`; other names by their last part."""
    match = re.match(r"layers? ([\d, to]+\d|\d+)", label)
    if match:
        return "L" + match[1].replace(" to ", "–").replace(", ", ",")
    return label.rpartition("/")[2][:7]


def _data(layout: Layout) -> str:
    """Tiles by chip for the script: [x, y, name, role, label] each; `<` cannot end the element."""
    chips = {
        chip: {
            "words": layout.chip_words(chip),
            "tiles": [[t.x, t.y, t.name, t.role, t.label] for t in tiles],
        }
        for chip, tiles in layout.by_chip.items()
    }
    roles = [
        {"name": role.name, "family": layout.family_of[n], "macros": role.macros}
        for n, role in enumerate(layout.map.roles)
    ]
    data = {
        "columns": layout.columns,
        "letters": layout.letters,
        "rows": layout.rows,
        "across": layout.map.chips[0],
        "per_tile": layout.map.macros_per_tile,
        "by_role": [f"fill-{colour(number_)}" for number_ in layout.family_of],
        "by_layer": [_layer_class(label) for label in layout.map.labels],
        "families": layout.families,
        "roles": roles,
        "labels": layout.map.labels,
        "short": [_short(label) for label in layout.map.labels],
        "chips": chips,
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _families(layout: Layout) -> str:
    """Each role: how many tiles, how many macros, how long its text is."""
    tiles = Counter(layout.map.role)
    copies = len(layout.map.corners)
    rows: list[Row] = [
        (
            None,
            (
                role.name,
                number(tiles[n] * copies),
                number(role.instructions),
                number(sum(role.macros.values())),
                Cell(
                    text_of(", ".join(f"{held} {kind}" for kind, held in role.macros.items()) or "none"),
                    "words",
                ),
            ),
        )
        for n, role in enumerate(layout.map.roles)
    ]
    heads = ("role", "tiles", "instructions", "macros a tile", "with")
    found = table(heads, rows, caption="Roles")
    return found if len(rows) <= _FEW else details(f"All {len(rows)} roles", found)
