"""Statistics that are hard to show: hostile names, very many tiles."""

from __future__ import annotations

from runtime.sinks.schema import Statistics

HOSTILE = (
    "<script>window.broken=1</script>",
    '"><img src=x onerror="window.broken=1">',
    "</script><script>window.broken=1</script>",
    "a & b 'c' \x00\x1b[31m \u202e \U0001f600 ]]> <!-- --> ${x} {{x}}",
)


def hostile(stats: Statistics) -> Statistics:
    """The same run with names of a user who means harm, everywhere where names can be."""
    a, b, c, d = HOSTILE
    tiles = stats.tile_map
    roles = [role.model_copy(update={"name": f"{role.name}{a}"}) for role in tiles.roles]
    places = [place.model_copy(update={"part": f"{place.part}{b}"}) for place in stats.places]
    constants = [k.model_copy(update={"source": f"{k.source}{c}"}) for k in stats.constants]
    changed = {
        "program": a + b,
        "target": c,
        "target_description": d,
        "engine": b,
        "options": {a: c, d: b},
        "places": places,
        "constants": constants,
        "tile_map": tiles.model_copy(
            update={
                "roles": roles,
                "labels": [f"{x}{d}{c}" for x in tiles.labels],
                "names": [c] * len(tiles.x),
            }
        ),
    }
    return stats.model_copy(update=changed)


def large(stats: Statistics, chips: int = 21, side: int = 8) -> Statistics:
    """The same run on chips x chips chips of side x side tiles, all in use."""
    count = (chips * side) ** 2
    places = [divmod(n, chips * side) for n in range(count)]
    tiles = stats.tile_map.model_copy(
        update={
            "chips": (chips, chips),
            "tiles": (side, side),
            "corners": [(0, 0)],
            "names": [],
            "x": [x for _, x in places],
            "y": [y for y, _ in places],
            "role": [n % len(stats.tile_map.roles) for n in range(count)],
            "label": [n % len(stats.tile_map.labels) for n in range(count)],
        }
    )
    return stats.model_copy(update={"tile_map": tiles, "tiles": count})
