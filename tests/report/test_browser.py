"""The page in a real browser: it loads, fits, says nothing wrong, and its parts work."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from runtime.html import page
from runtime.html.mapping import Layout
from runtime.sinks.schema import Statistics
from runtime.svg import COLOURS

from .browser import Page
from .examples import hostile, large
from .pictures import pixels
from .test_page import SECTIONS


@pytest.fixture(params=["plain", "hostile", "large"])
def opened(
    request: pytest.FixtureRequest, chromium: Page, run_stats: Statistics, tmp_path: Path
) -> tuple[Page, Path]:
    """The page of a run, loaded from a file."""
    shown = {"plain": run_stats, "hostile": hostile(run_stats), "large": large(run_stats, 4)}[request.param]
    path = tmp_path / "report.html"
    path.write_text(page(shown, run_stats), encoding="utf-8")
    chromium.resize(1200)
    chromium.open(path)
    return chromium, path


def test_it_loads_alone_and_without_complaint(opened: tuple[Page, Path]) -> None:
    tab, path = opened
    assert tab.requests == [path.resolve().as_uri()]
    assert tab.complaints == []
    assert tab.evaluate("window.broken") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_everything_is_there_and_fits(opened: tuple[Page, Path], width: int, scheme: str) -> None:
    tab, _ = opened
    tab.resize(width)
    tab.prefer(scheme)
    tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    sizes = tab.evaluate(
        "Object.fromEntries([...document.querySelectorAll('section')]"
        ".map((s) => [s.id, s.getBoundingClientRect().height]))"
    )
    assert set(sizes) == SECTIONS | {"baseline"}
    assert all(height > 100 for height in sizes.values())
    empty = tab.evaluate(
        "[...document.querySelectorAll('svg')].filter((s) => { const b = s.getBoundingClientRect();"
        " return !(b.width > 0 && b.height > 0) && getComputedStyle(s.parentElement).display !== 'none'; })"
        ".map((s) => s.outerHTML.slice(0, 200))"
    )
    assert empty == []
    assert tab.evaluate("document.querySelectorAll('svg').length") > 30
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.body.scrollWidth") <= width
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(246, 247, 249)") is (scheme == "light")


def test_it_fits_on_paper(opened: tuple[Page, Path]) -> None:
    """A4 with margins of a centimetre: 718 pixels; nothing scrolls there, so nothing may be wider."""
    tab, _ = opened
    tab.resize(718)
    tab.call("Emulation.setEmulatedMedia", media="print")
    tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    try:
        wide = tab.evaluate(
            "[...document.querySelectorAll('table, svg')].filter((e) => e.getBoundingClientRect().right > 719)"
            ".map((e) => e.caption?.textContent ?? e.getAttribute('class'))"
        )
        assert wide == []
        assert tab.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    finally:
        tab.call("Emulation.setEmulatedMedia", media="")


_CELLS = """
[...document.querySelectorAll('.plot.detail .cell')].slice(0, 64)
  .map((cell) => [cell.querySelector('[class*=fill-]'), cell.querySelector('text')])
  .filter(([square, text]) => square && text)
  .map((pair) => pair.map((element) => getComputedStyle(element).fill))
"""


def test_text_stands_out_from_its_ground(opened: tuple[Page, Path]) -> None:
    """Words in tiles have a contrast of 4.5 to 1 at least, light and dark."""
    tab, _ = opened
    for scheme in ("light", "dark"):
        tab.prefer(scheme)
        pairs = tab.evaluate(_CELLS)
        assert pairs
        assert min(_contrast(*map(_rgb, pair)) for pair in pairs) >= 4.5


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def _contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """As the Web Content Accessibility Guidelines define it."""

    def luminance(rgb: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_links_lead_to_constants_even_if_these_are_filtered_out(opened: tuple[Page, Path]) -> None:
    tab, _ = opened
    missing = tab.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].filter((a) =>"
        " !document.getElementById(a.getAttribute('href').slice(1))).length"
    )
    assert missing == 0
    _find(tab, "nothing is called this")
    assert _visible(tab) == 0
    tab.evaluate("document.querySelector('#energy a[href^=\"#constant-\"]').click()")
    tab.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert tab.evaluate("document.querySelector(':target').hidden") is False
    assert _visible(tab) > 50


def _find(tab: Page, words: str, level: str = "all") -> None:
    tab.evaluate(
        f"(() => {{ const f = document.getElementById('filter'); f.value = {json.dumps(words)};"
        f" document.getElementById('confidence').value = {json.dumps(level)};"
        " f.dispatchEvent(new Event('input')); })()"
    )


def _visible(tab: Page) -> int:
    rows = "[...document.querySelectorAll('#constants tbody tr')]"
    found: int = tab.evaluate(f"{rows}.filter((r) => r.getBoundingClientRect().height > 0).length")
    return found


def test_constants_can_be_found_and_sorted(opened: tuple[Page, Path], run_stats: Statistics) -> None:
    tab, _ = opened
    _find(tab, "macro.mac_energy")
    assert _visible(tab) == 1
    _find(tab, "", "assumed")
    assert _visible(tab) == sum(c.confidence == "assumed" for c in run_stats.constants)
    _find(tab, "", "behind energy")
    assert _visible(tab) == len({path for line in run_stats.energy_lines for path in line.constants})
    _find(tab, "")
    names = "[...document.querySelectorAll('#constants tbody th')].map((c) => c.textContent)"
    tab.evaluate("document.querySelector('#constants thead button').click()")
    assert tab.evaluate(names) == sorted(c.path for c in run_stats.constants)
    tab.evaluate("document.querySelectorAll('#constants thead button')[1].click()")
    values = tab.evaluate(
        "[...document.querySelectorAll('#constants tbody tr')].map((r) => +r.cells[1].dataset.sort)"
    )
    assert values == sorted(values)


@pytest.mark.parametrize("chips", [1, 3])
def test_tiles_can_be_coloured_by_layer(
    chromium: Page, run_stats: Statistics, tmp_path: Path, chips: int
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(run_stats if chips == 1 else large(run_stats, chips)), encoding="utf-8")
    chromium.open(path)
    before = chromium.evaluate(_CLASSES)
    for value in ("layer", "role"):
        chromium.evaluate(
            f"(() => {{ const p = document.getElementById('paint'); p.value = '{value}';"
            " p.dispatchEvent(new Event('input')); })()"
        )
        now = chromium.evaluate(_CLASSES)
        assert (sorted(now) == sorted(before)) is (value == "role")
        assert chromium.evaluate("document.getElementById('layers-note').hidden") is (value == "role")
    assert chromium.complaints == []


_CLASSES = """
[...document.querySelectorAll('.plot.detail .square, .plot.overview path')].map((e) => e.getAttribute('class'))
"""


def test_a_tile_that_is_tapped_says_what_it_is(chromium: Page, run_stats: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(run_stats), encoding="utf-8")
    chromium.open(path)
    tap = "document.querySelector('.plot.detail .cell .square').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    chromium.evaluate(tap)
    assert chromium.evaluate("document.getElementById('chip-words').textContent").startswith("t0 · ")


def test_tiles_too_fine_for_words_are_found_by_the_pointer(
    chromium: Page, run_stats: Statistics, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(large(run_stats, 1, 80)), encoding="utf-8")
    chromium.open(path)
    chromium.evaluate(_POINT)
    assert chromium.evaluate("document.getElementById('chip-words').textContent").startswith("t81 · ")
    assert chromium.complaints == []


_POINT = """
(() => {
  const map = document.querySelector('.plot.detail'), box = map.getBoundingClientRect();
  const at = (share, from, size) => from + ((share + 0.5) / 80) * size;
  const place = {clientX: at(1, box.left, box.width), clientY: at(1, box.top, box.height)};
  map.dispatchEvent(new PointerEvent('pointermove', place));
})()
"""


def test_the_map_is_painted_in_the_colours_of_its_roles(
    chromium: Page, run_stats: Statistics, tmp_path: Path
) -> None:
    """A picture of the map has as much of each role's colour as there are tiles of it."""
    path, picture = tmp_path / "report.html", tmp_path / "map.png"
    path.write_text(page(run_stats), encoding="utf-8")
    chromium.resize(1200)
    chromium.prefer("light")
    chromium.open(path)
    chromium.screenshot(picture, ".plot.detail")
    seen = Counter(tuple(int(c) for c in pixel) for pixel in pixels(picture).reshape(-1, 3))
    layout = Layout(run_stats.tile_map)
    tiles = Counter(layout.family_of[role] for role in run_stats.tile_map.role)
    (cell,) = {tuple(box) for box in chromium.evaluate(_SIZES)}
    for family, count in tiles.items():
        colour = tuple(bytes.fromhex(COLOURS[family % len(COLOURS)][0][1:]))
        assert 0.6 < seen[colour] / (count * cell[0] * cell[1]) <= 1.0  # the rest are words, bars and corners


_SIZES = """
[...document.querySelectorAll('.plot.detail .square')].map((s) => s.getBoundingClientRect())
  .map((box) => [Math.round(box.width), Math.round(box.height)])
"""


def test_a_chip_of_many_can_be_chosen(chromium: Page, run_stats: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(large(run_stats, 4)), encoding="utf-8")
    chromium.open(path)
    chips = chromium.evaluate("document.querySelectorAll('.plot.overview .chip').length")
    assert chips == 16
    chromium.evaluate(
        "document.querySelector('.chip[data-chip=\"6\"]').dispatchEvent(new MouseEvent('click'))"
    )
    assert chromium.evaluate("document.getElementById('chip-words').textContent").startswith(
        "chip (2, 1): 64 tiles"
    )
    title = chromium.evaluate("document.querySelector('.plot.detail .cell title').textContent")
    assert title.startswith(f"t{8 * 32 + 16} · ")
    assert chromium.complaints == []
    label = "document.querySelector('.plot.detail').getAttribute('aria-label')"
    heading = "document.querySelector('.plot.detail > title').textContent"
    assert chromium.evaluate(label) == chromium.evaluate(heading) == "Tiles of chip (2, 1)"


def test_what_is_not_in_use_has_a_name(chromium: Page, run_stats: Statistics, tmp_path: Path) -> None:
    """The same words with scripts as without: places without a role, chips without tiles."""
    stats = large(run_stats, 4)
    wider = stats.tile_map.model_copy(update={"chips": (5, 4)})
    path = tmp_path / "report.html"
    path.write_text(page(stats.model_copy(update={"tile_map": wider})), encoding="utf-8")
    chromium.open(path)
    chromium.evaluate(
        "document.querySelector('.chip[data-chip=\"9\"]').dispatchEvent(new MouseEvent('click'))"
    )
    assert chromium.evaluate("document.getElementById('chip-words').textContent") == "chip (4, 1): not in use"
    words = "[...document.querySelectorAll('.plot.detail .cell title')].map((t) => t.textContent)"
    assert chromium.evaluate(words)[8 + 2] == "(2, 1): no role"
    assert chromium.complaints == []
