"""How much of the hardware is in use: busy units, macros with data, KV cache, memories."""

from __future__ import annotations

from runtime.amounts import share
from runtime.report import kv_text
from runtime.sinks.schema import KvRecord, Statistics

from .charts import REST, Piece, bar, figure, legend, resource_colour
from .tags import Cell, Row, amount, number, section, table, tag, text

_KINDS = {"weight": 0, "kv": 3, "stream": 5}


def occupancy(stats: Statistics) -> str:
    """The section."""
    return section(
        "occupancy",
        "Occupancy",
        tag("div", tag("div", *_busy(stats), *_silicon(stats)), tag("div", *_room(stats)), class_="halves"),
        intro="Busy shares are of the whole time: of units, over all tiles in use; of macros, over those with data; "
        "of links within chips and of memories, over all channels of the chips in use; of links between chips, over "
        "those that messages may cross; each direction of a link counts. Macros count as used when they hold data, "
        "however little; how full these are is beside them.",
    )


def _busy(stats: Statistics) -> list[str]:
    rows: list[Row] = []
    for name, busy in sorted(stats.utilization.items(), key=lambda item: (-item[1], item[0])):
        if busy:
            hint = f"{name}: busy {100 * busy:.3g} % of the time"
            drawing = bar([Piece(busy, resource_colour(name), hint)], 1.0, hint)
            rows.append((None, (name, Cell(drawing, "drawn"), number(busy, f"{100 * busy:.2f} %"))))
    return [
        tag("h3", text("Units")),
        table(("resource", "busy", "share"), rows, caption="Busy share of each resource"),
    ]


def _silicon(stats: Statistics) -> list[str]:
    """The area of a chip by component; nothing where none is in use."""
    area = stats.area_mm2
    if not area.chips:
        return []
    parts = sorted(area.by_component.items(), key=lambda item: -item[1])
    rows: list[Row] = []
    for name, mm2 in [*parts, ("other", area.other)]:
        if mm2:
            hint = f"{name}: {mm2:,.4g} mm², {share(mm2, area.chip)}"
            drawing = bar(
                [Piece(mm2, REST if name == "other" else resource_colour(name), hint)], area.chip, hint
            )
            rows.append(
                (
                    None,
                    (
                        name,
                        Cell(drawing, "drawn"),
                        number(mm2, f"{mm2:,.4g}"),
                        number(mm2, share(mm2, area.chip)),
                    ),
                )
            )
    last: Row = (None, ("a chip", "", number(area.chip, f"{area.chip:,.4g}"), number(1.0, "100.0 %")))
    return [
        tag("h3", text("Silicon")),
        table(("component", "area", "mm²", "share"), rows, caption="Area of a chip by component", last=last),
    ]


def _room(stats: Statistics) -> list[str]:
    o = stats.occupancy
    rows = [
        _part("tiles", o.tiles[0], o.tiles[1], "tiles"),
        *([_part("chips", o.chips[0], o.chips[1], "chips")] if o.chips[1] > 1 else []),
        *(
            _part(f"{kind} macros, cells filled", filled, room, "cells")
            for kind, (filled, room) in o.cells.items()
            if room
        ),
        *(_part(name, used, room, "bytes") for name, (used, room) in o.memory_bytes.items() if room),
    ]
    return [
        tag("h3", text("Macros")),
        _macros(stats),
        *([] if stats.kv_cache is None else [tag("h3", text("KV cache")), _cache(stats.kv_cache)]),
        tag("h3", text("Room")),
        table(("what", "in use", "used", "of", "share"), rows, caption="How much is in use"),
    ]


def _part(name: str, used: int, room: int, unit: str) -> Row:
    hint = f"{name}: {used:,} of {room:,} {unit}"
    drawing = bar([Piece(used, 0, hint)], room, hint)
    return None, (
        name,
        Cell(drawing, "drawn"),
        number(used, _shown(used, unit)),
        number(room, _shown(room, unit)),
        number(used / room, share(used, room)),
    )


def _shown(value: int, unit: str) -> str:
    return amount(value, "B") if unit == "bytes" else f"{value:,}"


def _macros(stats: Statistics) -> str:
    o = stats.occupancy
    held = sum(o.macros.values())
    pieces = [
        Piece(n, _KINDS.get(kind, 1), f"{kind}: {n:,} macros, {share(n, o.macros_total)}")
        for kind, n in o.macros.items()
    ]
    pieces += [
        Piece(o.macros_on - held, REST, f"empty macros of tiles in use: {o.macros_on - held:,}"),
        Piece(
            o.macros_total - o.macros_on,
            None,
            f"macros of tiles not in use: {o.macros_total - o.macros_on:,}",
        ),
    ]
    drawing = bar(pieces, o.macros_total, "; ".join(p.hint for p in pieces), height=22)
    names = [(kind, _KINDS.get(kind, 1)) for kind in o.macros]
    words = "; ".join(p.hint for p in pieces if p.value)
    return figure(
        drawing,
        f"{o.macros_total:,} macros of the system. {words}.",
        legend([*names, ("empty, powered", REST), ("not in use", None)]),
    )


def _cache(kv: KvRecord) -> str:
    taken = kv.peak_pages * kv.page_rows
    pieces = [
        Piece(kv.peak_tokens, 3, f"tokens: {kv.peak_tokens:,}"),
        Piece(
            max(taken - kv.peak_tokens, 0),
            REST,
            f"empty rows of sequences' pages: {max(taken - kv.peak_tokens, 0):,}",
        ),
        Piece(max(kv.capacity - taken, 0), None, f"free: {max(kv.capacity - taken, 0):,}"),
    ]
    drawing = bar(pieces, kv.capacity, "; ".join(p.hint for p in pieces), height=22)
    text_ = kv_text(kv)
    return figure(
        drawing,
        f"{text_[0].upper()}{text_[1:]}.",
        legend([("tokens", 3), ("empty, taken", REST), ("free", None)]),
    )
