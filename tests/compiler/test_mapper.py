"""The mapper: structure, text, refusals."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from compiler.ir.mapping import Add, Arithmetic, Block, Mapping, Template
from compiler.ir.mapping_text import parse_mapping, print_mapping
from compiler.ir.mapping_verify import verify_mapping
from compiler.mapping.cutting import cut
from compiler.mapping.lines import SNAKE, Line
from compiler.mapping.mapper import MapOptions
from compiler.mapping.options import arithmetic_of, source_rows, weight_bits
from compiler.mapping.place import Crew, place
from compiler.mapping.policies import KvChoice
from compiler.mapping.problem import Problem
from compiler.mapping.rules import SHORTEST, segment_rows
from compiler.mapping.settle import settle
from isa.diagnostics import CimError
from isa.hardware import Hardware, load_target
from isa.interface import KvPolicy
from isa.program import Channel, Endpoint, Limits

from .building import ONE_TILE, Choices, mapping_of, tiny, with_quantity
from .graphs import Shape, decoder

SPREAD = Shape(width=320, layers=1, heads=4, kv_heads=4, inner=256, vocabulary=64)


def test_sections_of_a_decoder() -> None:
    layout = cut(decoder(Shape(layers=2)))
    assert [s.depth for s in layout.stages] == [0, 1, 2, 3, 4]
    assert [(s.depth, s.attention is not None, len(s.first)) for s in layout.sections] == [
        (0, True, 3),
        (1, False, 2),
        (2, True, 3),
        (3, False, 2),
        (4, False, 1),
    ]


@pytest.mark.parametrize(
    "shape", [Shape(), Shape(bias=True, kv_heads=4), SPREAD], ids=["llama", "gpt", "spread"]
)
@pytest.mark.parametrize("hub_width", [1024, 32])
def test_mapping_hangs_together_and_reads_back(shape: Shape, hub_width: int) -> None:
    mapping = mapping_of(decoder(shape), tiny(14), Choices(context=128, hub_width=hub_width))
    verify_mapping(mapping)
    assert parse_mapping(print_mapping(mapping)) == mapping


def test_mapping_text(golden) -> None:  # type: ignore[no-untyped-def]
    shape = Shape(width=32, layers=1, heads=2, kv_heads=1, inner=64, vocabulary=32)
    golden(
        "mapping/decoder.mapping",
        print_mapping(mapping_of(decoder(shape), tiny(), Choices(without=ONE_TILE))),
    )


def test_layers_share_templates() -> None:
    few = mapping_of(decoder(Shape(layers=3)), tiny(24))  # the last has fewer rows to work on
    many = mapping_of(decoder(Shape(layers=6)), tiny(24))
    assert [t.blocks for t in few.templates] == [t.blocks for t in many.templates]
    assert len(many.tiles) > len(few.tiles)


def test_a_part_that_does_not_fit_is_spread() -> None:
    kinds = Counter(t.template for t in mapping_of(decoder(SPREAD), tiny(14), Choices(context=128)).tiles)
    assert kinds["project"] and kinds["attend"] and kinds["combine"] and kinds["expand"] and kinds["reduce"]


def _system(chips_x: int, chips_y: int) -> Hardware:
    return with_quantity(with_quantity(tiny(4), "system", "chips_x", chips_x), "system", "chips_y", chips_y)


@pytest.mark.parametrize("line", [SNAKE, Line(1, 2), Line(2, 2), Line(2, 4), Line(3, 1), Line(2, 3)])
def test_a_line_fills_the_mesh(line: Line) -> None:
    hardware = _system(3, 3)
    cells = list(line.cells(hardware))
    assert sorted(cells) == [(x, y) for x in range(12) for y in range(12)]
    if 4 % line.block == 0:
        steps = [abs(x - u) + abs(y - v) for (x, y), (u, v) in itertools.pairwise(cells)]
        jumps = sum(step > 2 * line.block for step in steps)  # from one strip to the next
        assert jumps < 3


def test_strips_keep_neighbours_in_a_patch() -> None:
    cells = list(Line(2, 4).cells(_system(4, 4)))[:64]
    assert {(x // 8, y // 8) for x, y in cells} == {(0, 0)}


def test_the_layout_in_which_messages_travel_least_is_taken() -> None:
    hardware = _system(4, 4)
    ends = [Endpoint(tile, 0) for tile in range(64)]
    channels = [Channel("all", (ends[0],), tuple(ends[1:]))]
    near = place(Crew(64), channels, hardware, tries=True)
    assert near != place(Crew(64), channels, hardware, tries=False)
    assert max(x + y for x, y in near) < max(
        x + y for x, y in place(Crew(64), channels, hardware, tries=False)
    )


def test_units_that_fit_a_chip_cross_no_border() -> None:
    hardware = _system(4, 4)
    ends = [Endpoint(tile, 0) for tile in range(20)]
    units = [range(start, start + 10) for start in (0, 10)]
    channels = [Channel("all", (ends[u[0]],), tuple(ends[u[1] : u[-1] + 1])) for u in units]
    cells = place(Crew(20, units=(0, 10)), channels, hardware, tries=True)
    assert [len({hardware.chip_of(*cells[tile]) for tile in unit}) for unit in units] == [1, 1]
    assert len(set(cells)) == 20


def test_remote_tiles_lie_on_chips_nearby() -> None:
    hardware = _system(3, 3)
    cells = place(Crew(23, remote=(3, 4, 5)), [], hardware, tries=True)
    chips = [hardware.chip_of(*cell) for cell in cells]
    assert len({chips[tile] for tile in (3, 4, 5)}) == 3
    assert max(cells[tile][0] // 4 + cells[tile][1] // 4 for tile in (3, 4, 5)) == 1
    assert len(set(cells)) == 23


def test_tiles_past_the_last_have_no_place() -> None:
    places = place(Crew(40), [], tiny(6), tries=True)
    assert len(set(places[:36])) == 36
    assert places[36:] == [(-1, -1)] * 4


def _refused(code: str, shape: Shape, tiles: int = 6, context: int = 256, kv: KvPolicy | None = None) -> str:
    with pytest.raises(CimError) as error:
        choices = Choices(context=context, without=ONE_TILE, kv=KvChoice(kv), stream=False)
        mapping_of(decoder(shape), tiny(tiles), choices)
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.code == code
    assert diagnostic.help
    return diagnostic.render()


def test_too_few_tiles_is_refused_with_the_numbers() -> None:
    text = _refused("E0303", Shape(layers=2), tiles=2)
    assert "needs 14 tiles" in text and "has 4" in text and "4 or more of these chips" in text


def test_a_context_too_long_is_refused_with_one_that_fits() -> None:
    text = _refused("E0304", Shape(), tiles=8, context=4096, kv=KvPolicy.RESIDENT)
    assert "4,096 tokens" in text and "--max-context 1024 would fit" in text
    mapping_of(
        decoder(Shape()), tiny(8), Choices(context=1024, without=ONE_TILE, kv=KvChoice(KvPolicy.RESIDENT))
    )


def test_a_buffer_too_small_is_refused_with_the_largest_values() -> None:
    hardware = with_quantity(tiny(), "tile", "buffer", 1)
    with pytest.raises(CimError) as error:
        mapping_of(decoder(), hardware, Choices(without=ONE_TILE))
    assert error.value.diagnostics[0].code == "E0301"
    assert "bytes of buffer for one token" in str(error.value)


def test_rows_of_a_source_that_nothing_looks_at_are_refused() -> None:
    with pytest.raises(CimError, match=r"E0305.*no cross-attention"):
        source_rows(decoder(), 9, 64)
    assert source_rows(decoder(), None, 64) == 0


def test_weights_of_four_bits_lie_in_cells_of_eight() -> None:
    assert (arithmetic_of("int4"), weight_bits("int4")) == (Arithmetic.INT8, 4)
    assert (arithmetic_of("int8"), weight_bits("int8")) == (Arithmetic.INT8, 8)
    assert arithmetic_of("float32") is Arithmetic.FLOAT32


def _broken(mapping: Mapping, template: Template) -> Mapping:
    return replace(mapping, templates=(template, *mapping.templates[1:]))


def test_the_verifier_finds_a_name_that_is_not_declared() -> None:
    mapping = mapping_of(decoder(), tiny())
    first = mapping.templates[0]
    wrong = replace(first, blocks=(*first.blocks, Block(Add("nowhere", "x0", "x0"), "input")))
    with pytest.raises(CimError, match="names 'nowhere', which is not declared"):
        verify_mapping(_broken(mapping, wrong))


def test_the_verifier_finds_a_port_without_a_channel() -> None:
    mapping = mapping_of(decoder(), tiny())
    with pytest.raises(CimError, match="is on no channel"):
        verify_mapping(replace(mapping, channels=mapping.channels[1:]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chanel(name=c)", "chanel does not belong in a mapping"),
        ("channel(name=c, sources=[], dests=[], colour=1)", "channel has no field colour"),
        ("channel(name=c, sources=[])", "channel lacks its field dests"),
        ("channel(name=c, sources=[], dests=[], reduce=average)", "average is not one of none, sum, max"),
        ("channel(name=c,,)", "this is not a value as the printer writes it"),
        ("}", "this brace closes nothing"),
    ],
)
def test_mistakes_in_mapping_text_are_placed(line: str, message: str) -> None:
    with pytest.raises(CimError) as error:
        parse_mapping(f"; a comment\n{line}\n", "m.mapping")
    assert message in str(error.value)
    assert str(error.value).startswith("m.mapping:2:")


def test_mapping_a_large_model_takes_linear_work() -> None:
    hardware = load_target("dcim22-system")
    shape = Shape(width=512, layers=8, heads=8, kv_heads=8, inner=1024, vocabulary=256)
    limits = Limits(max_context=512, chunk=1)
    mapping = settle(Problem(decoder(shape), hardware, limits, Arithmetic.INT8), MapOptions()).mapping
    verify_mapping(mapping)
    assert len(mapping.templates) < 30


def test_segments_are_shorter_the_deeper_the_model() -> None:
    limits = Limits(256, chunk=1)
    rows = [segment_rows(decoder(Shape(layers=layers)), limits) for layers in (1, 2, 4, 8)]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > rows[-1] >= SHORTEST
