"""The page as text: whole, self-contained, complete, and safe whatever names it is given."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from runtime.cli import main
from runtime.html import page
from runtime.html.assumptions import worst
from runtime.html.mapping import Layout, family
from runtime.html.matrix import matrix
from runtime.html.roofline import roofline
from runtime.html.tags import Cell, number, table, tag
from runtime.report import render_report
from runtime.sinks.schema import Statistics
from runtime.sinks.statistics import write_statistics

from .conftest import measured
from .examples import HOSTILE, hostile, large

_VOID = {"br", "col", "input", "link", "meta"}
SECTIONS = {"summary", "bound", "energy", "occupancy", "roofline", "mapping", "assumptions"}


class Outline(HTMLParser):
    """Elements with their attributes; whether they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name not in _VOID:
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def attributes(self, key: str) -> list[str]:
        """The values of an attribute, all over the page."""
        return [value for _, found in self.elements for name, value in found.items() if name == key and value]


def test_sections_and_links(run_stats: Statistics) -> None:
    outline = Outline(page(run_stats))
    anchors = outline.attributes("id")
    assert len(anchors) == len(set(anchors))
    assert set(anchors) >= SECTIONS
    links = outline.attributes("href")
    assert {link[1:] for link in links if link.startswith("#")} <= set(anchors)
    assert [link for link in links if not link.startswith("#")] == ["data:,"]


def test_each_energy_line_links_to_its_constants(run_stats: Statistics) -> None:
    text = page(run_stats)
    for line in run_stats.energy_lines:
        row = text[text.index(f'id="line-{line.key}"') :]
        row = row[: row.index("</tr>")]
        assert all(f'href="#constant-{path}"' in row for path in line.constants)
    for constant in run_stats.constants:
        assert f'id="constant-{constant.path}"' in text


def test_drawings_and_tables_have_words(run_stats: Statistics) -> None:
    """For people who listen: labels of drawings and fields, captions of tables, headings without gaps."""
    _has_words(run_stats)


def test_drawings_of_decode_runs_have_words(decode_stats: Statistics) -> None:
    assert "Time step by step" in page(decode_stats)
    _has_words(decode_stats)


def _has_words(stats: Statistics) -> None:
    text = page(stats, stats)
    assert "<title></title>" not in text
    elements = Outline(text).elements
    pictures = [found for name, found in elements if name == "svg" and found.get("role") == "img"]
    assert len(pictures) > 30
    assert all(found.get("aria-label") for found in pictures)
    assert all(f.get("aria-hidden") for n, f in elements if n == "svg" and f not in pictures)
    names = [name for name, _ in elements]
    assert names.count("table") == names.count("caption")
    assert names.count("h1") == names.count("main") == 1
    levels = [int(name[1]) for name in names if re.fullmatch(r"h\d", name)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_nothing_is_fetched(run_stats: Statistics) -> None:
    outline = Outline(page(run_stats))
    assert outline.attributes("src") == []
    assert [name for name, _ in outline.elements if name in ("img", "iframe", "object")] == []
    assert re.search(r"url\(|@import|https?://", page(run_stats)) is None


@pytest.mark.parametrize("make", [hostile, lambda stats: large(hostile(stats), 2)])
def test_hostile_names_are_text(run_stats: Statistics, make: object) -> None:
    assert callable(make)
    text = page(make(run_stats), hostile(run_stats))
    plain = Outline(
        page(large(run_stats, 2) if "tiles" in Outline(text).attributes("id") else run_stats, run_stats)
    )
    outline = Outline(text)
    assert [n for n, _ in outline.elements].count("script") == [n for n, _ in plain.elements].count("script")
    assert "onerror" not in {key for _, found in outline.elements for key in found}
    assert all(name not in text for name in HOSTILE[:3])
    assert "\x00" not in text


def test_the_map_of_27000_tiles_is_small(run_stats: Statistics) -> None:
    stats = large(run_stats)
    assert stats.tiles > 27_000
    text = page(stats)
    assert len(text.encode()) < 3_000_000
    data = re.search(r'<script type="application/json" id="tiles">(.*?)</script>', text)
    assert data is not None
    chips = json.loads(data[1])["chips"]
    assert sum(len(chip["tiles"]) for chip in chips.values()) == stats.tiles


def test_a_chip_of_many_tiles_is_drawn_as_paths(run_stats: Statistics) -> None:
    assert len(page(large(run_stats, 1, 100)).encode()) < 3_000_000


def test_tiles_have_words(run_stats: Statistics) -> None:
    layout = Layout(run_stats.tile_map)
    (tiles,) = layout.by_chip.values()
    assert len(tiles) == run_stats.tiles
    words = layout.words(tiles[0])
    role = run_stats.tile_map.roles[tiles[0].role].name
    assert words.startswith(f"t0 · {role} · ")
    assert words in page(run_stats)
    assert family("attention_12") == family("attention") == "attention"


def test_the_matrix_of_parts_and_components_adds_up(run_stats: Statistics) -> None:
    text = matrix(run_stats)
    rows = [[float(v) for v in re.findall(r'data-sort="([^"]*)"', row)] for row in text.split("<tr>")[2:]]
    *parts, total = rows
    components = [joules for joules in run_stats.energy_j.by_component.values() if joules]
    assert len(total) == len(components) + 1
    assert total[-1] == pytest.approx(run_stats.energy_j.total)
    for column in range(len(total)):
        assert sum(row[column] for row in parts) == pytest.approx(total[column])


def test_energy_by_confidence_adds_up(run_stats: Statistics) -> None:
    assert sum(worst(run_stats).values()) == pytest.approx(run_stats.energy_j.total)


def test_a_comparison_is_a_section_of_its_own(run_stats: Statistics) -> None:
    assert 'id="baseline"' not in page(run_stats)
    text = page(run_stats, run_stats)
    assert 'id="baseline"' in text
    assert "All constants of the targets are equal" in text


def test_a_model_on_the_host_alone_has_a_page(model: Path, tmp_path: Path) -> None:
    stats = measured(model, tmp_path, ("--place", "host", "--shapes-only"), ())
    assert stats.tiles == 0
    outline = Outline(page(stats))
    assert set(outline.attributes("id")) >= SECTIONS
    assert "the host runs the whole model" in page(stats)
    assert "Silicon" not in page(stats)
    assert re.search("^(area|activity) ", render_report(stats), re.MULTILINE) is None


def test_cells_that_wear_out_are_named(model: Path, tmp_path: Path) -> None:
    stats = measured(model, tmp_path, ("--target", "isaac32"), ("--tokens", "1", "--position", "5"))
    (item,) = stats.wear
    assert item.lifetime_s == pytest.approx(item.endurance / item.writes_per_token * stats.latency_s)
    assert "worn out in" in page(stats)
    assert "worn out in" in render_report(stats)
    known = {c.path for c in stats.constants}
    used = {path for line in stats.energy_lines for path in line.constants}
    assert "macro.adc.energy" in used <= known


@pytest.fixture(scope="module")
def decode_stats(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Statistics:
    """Nine decode steps, of which some are simulated."""
    return measured(model, tmp_path_factory.mktemp("decode"), (), ("--decode", "9", "--every", "4"))


def test_a_run_of_decode_steps_is_summed_up(decode_stats: Statistics) -> None:
    assert decode_stats.decode is not None
    assert f"{decode_stats.decode.cycles:,} cycles at" in page(decode_stats)
    assert "(3 steps simulated)" in page(decode_stats, decode_stats)


def test_the_peak_of_the_roofline_is_that_of_arrays(run_stats: Statistics) -> None:
    """Marks are operations of arrays, however fast vector units are."""
    fast = [
        roof.model_copy(update={"per_second": 1e6 * roof.per_second}) if roof.component == "vector" else roof
        for roof in run_stats.roofs
    ]
    plain, other = (roofline(s) for s in (run_stats, run_stats.model_copy(update={"roofs": fast})))
    found = [re.findall(r"at most ([^<]*)</title>", text) for text in (plain, other)]
    assert found[0] == found[1] != []


def test_tags() -> None:
    assert tag("p", "x", class_="a", hidden=True, title=None) == '<p class="a" hidden>x</p>'
    assert tag("input", type="search") == '<input type="search">'
    found = table(("a", "b"), [("r", ("<x>", number(2.5, "2.5")))], caption="c")
    assert (
        '<tr id="r"><th scope="row">&lt;x&gt;</th><td class="number" data-sort="2.5">2.5</td></tr>' in found
    )
    assert '<th scope="col" class="number">b</th>' in found
    assert table(("a",), [(None, (Cell("<b>x</b>"),))], caption="c").count("<b>x</b>") == 1


def test_the_command_writes_it(
    run_stats: Statistics, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stats, out = tmp_path / "s.json", tmp_path / "r.html"
    write_statistics(stats, run_stats)
    assert main(["report", str(stats), "--html", str(out), "--baseline", str(stats)]) == 0
    assert out.read_text(encoding="utf-8") == page(run_stats, run_stats)
    assert f"written: {out}" in capsys.readouterr().err
    assert main(["report", str(stats), "--html", "-"]) == 0
    assert capsys.readouterr().out == page(run_stats)
    assert main(["report", str(stats), "--html", str(tmp_path / "none" / "r.html")]) == 1
    assert "E0003" in capsys.readouterr().err


def test_timing_only_runs_say_how_full_the_cache_is(run_stats: Statistics) -> None:
    assert run_stats.kv_cache is not None
    assert (run_stats.kv_cache.peak_tokens, run_stats.kv_cache.capacity) == (9, 64)
