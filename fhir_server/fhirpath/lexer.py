"""Splits a FHIRPath expression into tokens.

Specification: http://hl7.org/fhirpath/N1/grammar.html
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fhir_server.fhirpath.errors import FhirPathSyntaxError

MAX_LENGTH = 100_000
"""Longest expression that is read, in characters."""

_TOKEN = re.compile(
    r"""
    (?P<blank>\s+|//[^\n\r]*|/\*.*?\*/)
  | (?P<datetime>@\d{4}(?:-\d\d(?:-\d\d)?)?T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?)?)
  | (?P<time>@T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?)
  | (?P<date>@\d{4}(?:-\d\d(?:-\d\d)?)?)
  | (?P<number>\d+(?:\.\d+|L)?)
  | (?P<string>'(?:[^'\\]|\\.)*')
  | (?P<quoted>`(?:[^`\\]|\\.)*`)
  | (?P<special>\$(?:this|index|total))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<symbol><=|>=|!=|!~|[-+*/&|<>=~.,()\[\]{}%])
    """,
    re.X | re.S | re.ASCII,
)
_ESCAPES = {"'": "'", '"': '"', "`": "`", "\\": "\\", "/": "/", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.S)


class Token(NamedTuple):
    """kind: name, quoted, string, number, date, datetime, time, special, symbol or end; `text` without quotes and escapes."""

    kind: str
    text: str
    position: int


def unescape(text: str, position: int) -> str:
    """Resolve the escapes of a string or delimited identifier that begins at `position`. Raises FhirPathSyntaxError."""

    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] == "u" and len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            raise FhirPathSyntaxError(f"\\{code} is no escape of FHIRPath", position + found.start(), f"\\{code} 不是 FHIRPath 的转义")
        return _ESCAPES[code]

    return _ESCAPE.sub(one, text) if "\\" in text else text


def tokens(expression: str) -> list[Token]:
    """All tokens and a last one of kind 'end'; raises FhirPathSyntaxError."""
    if len(expression) > MAX_LENGTH:
        what = f"the expression is longer than {MAX_LENGTH} characters"
        raise FhirPathSyntaxError(what, MAX_LENGTH, f"表达式超过 {MAX_LENGTH} 个字符")
    found, position = [], 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            if expression[position] in "'`":
                raise FhirPathSyntaxError("a string or name that does not end is not understood", position, "字符串或名称没有结束")
            raise FhirPathSyntaxError(f"'{expression[position]}' is not understood", position, f"无法识别“{expression[position]}”")
        kind, text = str(match.lastgroup), match[0]
        if kind in ("string", "quoted"):
            text = unescape(text[1:-1], position + 1)
        if kind != "blank":
            found.append(Token(kind, text, position))
        position = match.end()
    found.append(Token("end", "", position))
    return found
