"""Program files: what is written is read back, mapped, and anything else is refused with a reason."""

from __future__ import annotations

import json
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open

from isa.assembler import assemble, assemble_file
from isa.binary import read_program, write_program
from isa.codec import Codec, CodecError, Strings
from isa.diagnostics import CimError, InstructionPlace
from isa.digest import declaration_lines, isa_hash
from isa.instruction import DType
from isa.program import ArrayData, Channel, Endpoint, Limits, Program, Role, Slice, TensorInfo, Tile

GOLDEN = Path(__file__).parent.parent / "golden" / "isa"
SMALL = """
.target tiny
.limits context=64 chunk=8
.tensor w i8[3,5] = 1
.tensor half f16[3] = 0.5
.tensor s f32[5] = 1 2 3 4 5
.tensor none f32[0]
.role empty
.end
.role r
  .array a0 w weight i8[3,5]
  li r1, 77
  halt
.end
.tile t r at 0,0
  .bind a0 w[0,0] scales s[0]
"""


@pytest.fixture
def program() -> Program:
    return assemble(SMALL)


@pytest.fixture
def file(program: Program, tmp_path: Path) -> Path:
    write_program(program, tmp_path / "p.cim")
    return tmp_path / "p.cim"


def test_round_trip_with_data(program: Program, file: Path) -> None:
    again = read_program(file)
    assert again == program
    assert again.data is not None and program.data is not None
    for name, array in program.data.items():
        np.testing.assert_array_equal(again.data[name], array)
        assert again.data[name].dtype == array.dtype
        assert not again.data[name].flags.writeable
        assert again.data[name].flags.aligned


def test_data_is_mapped_unless_asked_otherwise(file: Path) -> None:
    mapped, copied = read_program(file).data, read_program(file, map_data=False).data
    assert mapped is not None and copied is not None
    assert not mapped["w"].flags.owndata and copied["w"].flags.owndata
    np.testing.assert_array_equal(mapped["w"], copied["w"])


def test_shapes_only_programs_have_no_data(tmp_path: Path) -> None:
    program = assemble_file(GOLDEN / "two_roles.cimasm")
    write_program(program, tmp_path / "p.cim")
    assert read_program(tmp_path / "p.cim").data is None
    with safe_open(tmp_path / "p.cim", framework="numpy") as file:
        assert sorted(file.keys()) == ["text/embed", "text/project"]


def test_any_safetensors_reader_opens_the_file(file: Path) -> None:
    with safe_open(file, framework="numpy") as opened:
        assert opened.get_tensor("data/w").shape == (3, 5)
        assert opened.get_tensor("text/r").shape == (2, 16)
        header = json.loads(opened.metadata()["cim"])
    assert header["format"] == 1 and header["isa"] == isa_hash()
    assert header["target"]["name"] == "tiny"


class Counting(Mapping[str, NDArray[Any]]):
    """Tensor contents that count how often each is fetched."""

    def __init__(self, data: Mapping[str, NDArray[Any]]) -> None:
        self.data, self.fetched = data, dict.fromkeys(data, 0)

    def __getitem__(self, name: str) -> NDArray[Any]:
        self.fetched[name] += 1
        return self.data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


def test_each_tensor_is_fetched_once_and_any_layout_will_do(program: Program, tmp_path: Path) -> None:
    assert program.data is not None
    turned = dict(program.data) | {
        "w": np.arange(15, dtype=np.int8).reshape(5, 3).T,
        "s": program.data["s"].astype(">f4"),
    }
    counting = Counting(turned | {"s": turned["s"].byteswap().view("<f4")})
    write_program(replace(program, data=counting), tmp_path / "p.cim")
    assert set(counting.fetched.values()) == {1}
    again = read_program(tmp_path / "p.cim")
    assert again.data is not None
    np.testing.assert_array_equal(again.data["w"], turned["w"])
    np.testing.assert_array_equal(again.data["s"], turned["s"])


def test_data_that_is_not_what_is_declared_is_refused(program: Program, tmp_path: Path) -> None:
    assert program.data is not None
    wrong = replace(program, data={**program.data, "w": np.zeros((3, 4), np.int8)})
    with pytest.raises(CimError, match="E0410"):
        write_program(wrong, tmp_path / "p.cim")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(file: Path, program: Program) -> None:
    before = file.read_bytes()
    assert program.data is not None
    with pytest.raises(KeyError):
        write_program(replace(program, data={"w": program.data["w"]}), file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["p.cim"]


def test_a_folder_that_is_not_there(program: Program, tmp_path: Path) -> None:
    with pytest.raises(CimError, match="E0003"):
        write_program(program, tmp_path / "none" / "p.cim")


def _code_of(path: Path) -> str:
    with pytest.raises(CimError) as caught:
        read_program(path)
    assert all(d.help for d in caught.value.diagnostics)
    return caught.value.diagnostics[0].code


def test_missing_foreign_and_damaged_files(file: Path, tmp_path: Path) -> None:
    assert _code_of(tmp_path / "none.cim") == "E0001"
    assert _code_of(tmp_path) == "E0001"
    for name, content in {
        "empty": b"",
        "text": b".target tiny\n",
        "zeros": bytes(64),
        "short": file.read_bytes()[:-1],
        "half": file.read_bytes()[: file.stat().st_size // 2],
        "long": file.read_bytes() + b"1234",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert _code_of(path) == "E0110", name


def _rewrite(file: Path, change: dict[str, Any]) -> Path:
    """A copy of the file with entries of the program's header changed (None: removed)."""
    data = file.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    inner = json.loads(header["__metadata__"]["cim"]) | change
    header["__metadata__"]["cim"] = json.dumps({k: v for k, v in inner.items() if v is not None})
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = file.with_name("changed.cim")
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    return path


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, ""),
        ({"isa": "0123456789abcdef"}, "E0111"),
        ({"format": 99}, "E0112"),
        ({"format": None}, "E0110"),
        ({"target": None}, "E0110"),
        ({"target": {"name": "x"}}, "E0502"),
        ({"strings": []}, "E0110"),
        ({"tiles": [[1, 2]]}, "E0110"),
        ({"tiles": 5}, "E0110"),
        ({"limits": ["a", 1, 1, 1]}, "E0110"),
        ({"tensors": [[0, "int8", [2, 2]]]}, "E0110"),
        ({"roles": None}, "E0110"),
    ],
)
def test_headers_of_other_versions_or_damaged(file: Path, change: dict[str, Any], code: str) -> None:
    path = _rewrite(file, change)
    if code:
        assert _code_of(path) == code
    else:
        assert read_program(path) == read_program(file)


@given(st.data())
@settings(max_examples=80)
def test_damage_is_a_diagnostic_or_a_program(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.cim"
        write_program(assemble(SMALL), path)
        content = bytearray(path.read_bytes())
        start = content.index(b"roles")
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(start, len(content) - 1))] = data.draw(
                st.sampled_from(b'0129,[]"x\xff')
            )
        path.write_bytes(content)
        try:
            read_program(path)
        except CimError as error:
            assert all(d.help for d in error.diagnostics)


def test_another_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "weights.safetensors")
    assert _code_of(tmp_path / "weights.safetensors") == "E0110"


def test_undecodable_words_are_named(file: Path) -> None:
    data = file.read_bytes()
    word = assemble(SMALL).roles[1].code[0].encode()
    assert data.count(word) == 1
    file.write_bytes(data.replace(word, b"\xff" * 16))
    with pytest.raises(CimError) as caught:
        read_program(file)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0113"
    assert diagnostic.place == InstructionPlace(str(file), "r", 0, "ff" * 16)


def test_many_undecodable_words_are_counted(program: Program, tmp_path: Path) -> None:
    role = replace(program.roles[1], code=program.roles[1].code[:1] * 50, lines=())
    write_program(replace(program, roles=(role,)), tmp_path / "p.cim")
    word = role.code[0].encode()
    (tmp_path / "p.cim").write_bytes((tmp_path / "p.cim").read_bytes().replace(word, b"\xff" * 16))
    with pytest.raises(CimError) as caught:
        read_program(tmp_path / "p.cim")
    assert len(caught.value.diagnostics) == 20
    assert caught.value.diagnostics[-1].notes == ("30 more words cannot be decoded",)


def test_the_digest_covers_fields_and_accesses() -> None:
    lines = declaration_lines()
    assert "0x20 mvm cim" in lines
    assert "  src, bit 45, AddrKind 24, READ I8 nxrows pitch None" in lines
    assert len(isa_hash()) == 16 and isa_hash() == isa_hash()


def test_codec_refuses_wrong_leaves() -> None:
    codec = Codec(Limits, Strings())
    assert codec.unpack(codec.pack(Limits(8, 4))) == Limits(8, 4)
    for wrong in (None, [1, 2], [1, 2, 3, True], [1, 2, 3, 4.0], "text", [1, 2, 3, "4"]):
        with pytest.raises(CodecError):
            codec.unpack(wrong)  # type: ignore[arg-type]


def test_large_programs_are_quick(program: Program, tmp_path: Path) -> None:
    count = 3000
    role = Role("r", program.roles[1].code, arrays=program.roles[1].arrays, sites=("q", "k"))
    tiles = tuple(
        Tile(
            f"t{n}",
            "r",
            n % 64,
            n // 64,
            (),
            (ArrayData(Slice(f"w{n % 99}", (n, 0))),),
            (),
            (f"/q{n % 9}", f"/k{n % 9}"),
        )
        for n in range(count)
    )
    channels = tuple(
        Channel(f"c{n}", (Endpoint(n, 0),), (Endpoint((n + 1) % count, 1),)) for n in range(count)
    )
    tensors = tuple(TensorInfo(f"w{n}", DType.I8, (4096, 4096)) for n in range(99))
    large = Program(program.target, Limits(512, 16), (role,), tiles, channels, tensors=tensors)
    began = time.perf_counter()
    write_program(large, tmp_path / "p.cim")
    assert read_program(tmp_path / "p.cim") == large
    assert time.perf_counter() - began < 5
    assert (tmp_path / "p.cim").stat().st_size < 120 * count
