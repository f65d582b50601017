"""Highlighting of assembly text, made from the instruction table (a Pygments lexer, found by the name `cimasm`)."""

from __future__ import annotations

from typing import ClassVar

from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Whitespace

from . import instructions as _declared  # noqa: F401 (its import fills the table)
from .asm_text import DIRECTIVES
from .instruction import BY_MNEMONIC, TABLE
from .operands import EnumKind, FlagKind, Space

_FLAGS = {f.name for cls in TABLE.values() for f in cls.layout if isinstance(f.kind, FlagKind)}
_MEMBERS = {
    member.name.lower()
    for cls in TABLE.values()
    for field in cls.layout
    if isinstance(field.kind, EnumKind)
    for member in field.kind.type
}
_CLAUSES = ("at", "bytes", "chip", "columns", "from", "host", "scales", "tensor", "to", "via")


class CimAsmLexer(RegexLexer):  # type: ignore[misc]  # Pygments has no type information
    """Instructions, registers, addresses, directives and labels of `.cimasm`."""

    name = "CIM assembly"
    aliases: ClassVar = ["cimasm"]
    filenames: ClassVar = ["*.cimasm"]
    mimetypes: ClassVar = ["text/x-cimasm"]
    url = ""

    tokens: ClassVar = {
        "root": [
            (r";.*", Comment.Single),
            (r"\s+", Whitespace),
            (r'"(\\.|[^"\\\n])*"', String.Double),
            (r"@[\w./$-]+", Name.Decorator),
            (r"[A-Za-z_][\w.$]*:(?=\s|$)", Name.Label),
            (words(["." + d.name for d in DIRECTIVES], suffix=r"(?=\s|$)"), Keyword.Namespace),
            (words(sorted(BY_MNEMONIC), prefix=r"(?<![\w./$=-])", suffix=r"(?=\s|$)"), Keyword),
            (r"r(3[01]|[12]?\d)(?![\w./$-])", Name.Variable),
            (r"[apc]\d+(?![\w./$-])", Name.Variable.Instance),
            (words([s.name.lower() for s in Space], suffix=r"(?=\[)"), Name.Builtin),
            (words(sorted(_FLAGS | _MEMBERS), suffix=r"(?=\s*(,|@|;|$))"), Name.Constant),
            (words(_CLAUSES, suffix=r"(?=\s|$)"), Keyword.Pseudo),
            (r"(i8|i32|f16|f32)\b", Keyword.Type),
            (r"=(?=\s|\"|-?\d+(\s|$))", Operator),
            (r"(=)([\w./$:+-]+)", bygroups(Operator, String)),
            (
                r"-?(0x[0-9a-fA-F]+|\d+\.\d*([eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+|inf\b|nan\b)(?![\w./$])",
                Number,
            ),
            (r"\+\+?", Operator),
            (r"[\[\],:]", Punctuation),
            (r"[A-Za-z_/][\w./$-]*", Name),
        ]
    }
