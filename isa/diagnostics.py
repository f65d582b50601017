"""What `cim` says when the input is wrong: a code, a place, what is wrong, what to do.

Every code is declared once in `CODES`; `cim explain CODE` prints its entry. A user's mistake raises
`CimError`, which carries one or more `Diagnostic`s; anything else that escapes is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A spot in a text file. `line` and `column` count from 1; `width` is how much to underline."""

    path: str
    line: int
    column: int
    text: str = ""
    width: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A node of an ONNX model."""

    model: str
    node: str
    op: str

    def __str__(self) -> str:
        return f"{self.model}: node {self.node!r} ({self.op})"


@dataclass(frozen=True, slots=True)
class InstructionPlace:
    """An instruction of a role (by its index) in a program."""

    program: str
    role: str
    index: int
    text: str = ""

    def __str__(self) -> str:
        shown = f" `{self.text}`" if self.text else ""
        return f"{self.program}: role {self.role}, instruction {self.index}{shown}"


@dataclass(frozen=True, slots=True)
class NamedPlace:
    """A file, or a named thing in it (`target.toml`, `macro.rows`)."""

    path: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.name}" if self.name else self.path


Place = FilePlace | NodePlace | InstructionPlace | NamedPlace


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong: `code` (a key of `CODES`), message, place, notes and a way out."""

    code: str
    message: str
    place: Place | None = None
    help: str | None = None
    notes: tuple[str, ...] = ()

    def render(self) -> str:
        """The text a person reads: place, code, message, the line underlined, notes, help."""
        where = f"{self.place}: " if self.place is not None else ""
        lines = [f"{where}error[{self.code}]: {self.message}"]
        if isinstance(self.place, FilePlace) and self.place.text:
            number = f"{self.place.line:>5}"
            lines.append(f"{number} | {self.place.text}")
            lines.append(
                " " * len(number) + " | " + " " * (self.place.column - 1) + "^" * max(1, self.place.width)
            )
        lines += [f"note: {note}" for note in self.notes]
        if self.help:
            lines.append(f"help: {self.help}")
        return "\n".join(lines)


class CimError(Exception):
    """The input is wrong. Carries at least one diagnostic; the command line exits with 1."""

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (
            (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        )
        super().__init__("\n".join(d.render() for d in self.diagnostics))

    def __reduce__(self) -> tuple[type[CimError], tuple[tuple[Diagnostic, ...]]]:
        """Between processes it is its diagnostics, not its text."""
        return type(self), (self.diagnostics,)


def fail(code: str, message: str, place: Place | None = None, help: str | None = None) -> CimError:  # noqa: A002
    """A `CimError` of one diagnostic, to be raised by the caller."""
    return CimError(Diagnostic(code, message, place, help))


@dataclass(frozen=True, slots=True)
class Code:
    """What a diagnostic code means, for `cim explain`."""

    title: str
    explanation: str


# E00 command line and files   E01 assembly, encoding, container   E02 import and recognition
# E03 mapping and capacity     E04 verifier                        E05 targets      E06 running
CODES: dict[str, Code] = {
    "E0001": Code("file not found", "The named file does not exist or cannot be read."),
    "E0002": Code(
        "unknown diagnostic code", "`cim explain` knows the codes that `cim` prints, for example E0103."
    ),
    "E0003": Code(
        "file not written", "The output file cannot be written: no such folder, no permission, or no space."
    ),
    "E0004": Code("unknown pass", "The compiler has no pass of this name; `cim passes` lists them in order."),
    "E0101": Code(
        "assembly syntax", "The line does not follow the grammar of the assembly language (docs/isa.md)."
    ),
    "E0102": Code(
        "unknown instruction", "The mnemonic is not in the instruction table; `cim isa` lists them all."
    ),
    "E0103": Code(
        "operand out of range", "The value does not fit the operand's field or the target's resources."
    ),
    "E0104": Code("wrong operand", "The instruction takes another number or another kind of operands here."),
    "E0105": Code(
        "unknown name", "A label, role, port, array, channel or tensor is used but never declared."
    ),
    "E0106": Code("declared twice", "The same name is declared more than once."),
    "E0107": Code(
        "backward branch", "Branches only go forward; a `loop` is the only way back, so programs end."
    ),
    "E0108": Code(
        "another target", "The assembly text names a target, or a state of it, that is not the one at hand."
    ),
    "E0110": Code("not a cim program", "The file is not a `.cim` container or is damaged."),
    "E0111": Code(
        "another ISA",
        "The program was encoded with another version of the instruction table. Compile or assemble it again.",
    ),
    "E0112": Code("another format version", "The container's format version is not the one this tool reads."),
    "E0113": Code("undecodable instruction", "The bits of an instruction word match no entry of the table."),
    "E0201": Code(
        "cannot read the ONNX file",
        "The file is truncated, is not ONNX, or its graph does not hang together.",
    ),
    "E0202": Code(
        "external data missing",
        "The model keeps weights in a file beside it, which is absent, too short or outside the model's folder.",
    ),
    "E0203": Code(
        "operator refused",
        "A node of the model cannot be compiled. The message says why; `cim ops MODEL` says it for every node.",
    ),
    "E0204": Code("graph text", "The text is not a Graph as the printer writes it."),
    "E0205": Code("malformed graph", "Values, constants and nodes of a Graph do not fit together."),
    "E0206": Code("no such axis", "`--dim NAME=VALUE` names an axis that the model does not leave free."),
    "E0301": Code("tile buffer too small", "The values that a tile must hold at once exceed its buffer."),
    "E0302": Code(
        "not enough macros", "The weights and the KV cache need more CIM macros than the target has."
    ),
    "E0303": Code("not enough tiles", "The mapping needs more tiles than the target has."),
    "E0304": Code(
        "KV cache does not fit",
        "The KV arrays for the declared context exceed what a tile can hold, or its rows in memory a chip's DRAM.",
    ),
    "E0305": Code(
        "option not available",
        "The KV policy, placement or weight format asked for is not available, or does not apply to the model.",
    ),
    "E0306": Code("shape not mappable", "A dimension of the model cannot be laid out on this target."),
    "E0308": Code(
        "context beyond the model",
        "The model looks positions up in a learned table that is shorter than the declared context.",
    ),
    "E0309": Code(
        "memory too small",
        "A table that rows are looked up in does not fit the memories of a chip (DRAM, global buffer).",
    ),
    "E0310": Code(
        "instruction memory too small", "The text of a role is longer than a tile's instruction memory."
    ),
    "E0311": Code(
        "not enough ports", "A tile's work takes part in more channels than its port table has room for."
    ),
    "E0312": Code(
        "not enough registers",
        "The code of a role holds more numbers at once than a tile has scalar registers.",
    ),
    "E0307": Code("mapping text", "The text is not a Mapping as the printer writes it."),
    "E0401": Code(
        "operand beyond the target", "A register, array, port or parameter is not there on this target."
    ),
    "E0402": Code("buffer access out of range", "An access can reach beyond the tile buffer."),
    "E0403": Code("array access out of range", "An access can reach beyond the rows or columns of an array."),
    "E0404": Code(
        "read before write",
        "Bytes are read that no earlier instruction is sure to have written, or rows of a KV cache are used that were "
        "not surely appended.",
    ),
    "E0405": Code(
        "channel mismatch",
        "A channel's senders and receivers do not exchange the same messages, or not in loops over the same segments.",
    ),
    "E0406": Code("deadlock", "Tiles wait for each other in a circle and none can go on."),
    "E0407": Code("loop structure", "Loops must nest, and branches must not cross a loop's border."),
    "E0408": Code("capacity exceeded", "The arrays, constants or code of a tile exceed what the target has."),
    "E0409": Code("memory access out of range", "An access can reach beyond DRAM or the global buffer."),
    "E0410": Code(
        "malformed program",
        "Roles, tiles, channels, tensors, streams, KV caches, inputs and outputs of the program do not fit together.",
    ),
    "E0411": Code(
        "undefined operation",
        "An instruction may meet operands that it is not defined for: a divisor of zero, a shift beyond 31, a "
        "negative length, a segment that is not in the step.",
    ),
    "E0501": Code(
        "unknown target", "There is no target of this name; `cim targets` lists them, or give a .toml file."
    ),
    "E0502": Code("target file invalid", "The hardware description does not follow the schema."),
    "E0601": Code("wrong inputs", "The given inputs do not fit the program (names, shapes, lengths)."),
    "E0602": Code("context exhausted", "The sequence would grow beyond the program's maximum context."),
    "E0603": Code("no weights", "The program was compiled with --shapes-only and cannot compute values."),
    "E0604": Code(
        "machine trap", "An instruction did what the machine does not allow (the program is not verified)."
    ),
    "E0605": Code(
        "not a statistics file", "The file is not the JSON that `--stats` writes, or is of another version."
    ),
    "E0606": Code(
        "host partition failed",
        "A part of the model that the host runs cannot be loaded or run there (ONNX Runtime, ONNX's evaluator).",
    ),
    "E0607": Code("KV cache full", "The sequences need more pages of the KV arrays than the program has."),
    "E0608": Code(
        "wrong pages",
        "A step gives a sequence pages of the KV arrays that are not there, too few, those of another sequence, or "
        "others than those with its rows.",
    ),
    "E0609": Code(
        "process ended", "The system has ended a process that simulated steps, as when memory is short."
    ),
}
