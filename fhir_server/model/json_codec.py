"""Strict JSON in, canonical JSON out: decimal digits are kept, duplicate keys and what is not JSON are refused.

Specification: https://hl7.org/fhir/R4/json.html, RFC 8259
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from fhir_server.errors import FhirError

MAX_DEPTH = 100
"""Deepest nesting of objects and arrays that is read."""

# Numbers whose text a float might not give back. Group 1: a trailing zero, or more digits than a float surely keeps (a closer look
# tells); otherwise an exponent, a very small number, or -0. They stand behind a key or in an array: times such as 08:00:00.000 inside
# strings must not look like one. Three patterns with a literal start are five times as fast as one with a choice.
_NUMBER = rb"\s*-?(?:(\d+\.\d*0(?![\d.eE])|\d[\d.]{15,}(?![\d.eE]))|\d[\d.]*[eE]|0\.00000|0(?=[,\]}\s])(?<=-0))"
_CAREFUL_NUMBERS = [re.compile(start + _NUMBER).finditer for start in (rb'":', rb",", rb"\[")]
_SAFE_INTEGER = 18
"""Digits that an integer may have to be read exactly."""
_SPACED_KEY = re.compile(rb'"\s+:')
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_CONTROL_ESCAPE = re.compile(rb"\\u00(?:0[0-8bBcCeEfF]|1[0-9a-fA-F])|\\[bf]")


class Number(Decimal):
    """A JSON number that keeps the text in which it was sent (72.50, 1e2)."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Number:
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __reduce__(self) -> Any:
        return Number, (self.text,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Number:
        return self


def _refuse(what: str, zh: str) -> FhirError:
    return FhirError.of(400, "structure", what, zh=zh)


class _Pairs:
    """Object hook of the careful parser: refuses a key that comes twice."""

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    kind = made.get("resourceType")
                    place = f" of a {kind}" if isinstance(kind, str) else ""
                    raise _refuse(
                        f"The key '{key}'{place} stands twice in one JSON object; keys must be unique", f"JSON 对象中键“{key}”重复"
                    )
                seen.add(key)
        return made


def _constant(text: str) -> Any:
    raise _refuse(f"{text} is not JSON", f"{text} 不是合法的 JSON")


def _number(text: str) -> float | Number:
    value = float(text)
    return value if repr(value) == text else Number(text)


def _integer(text: str) -> int | Number:
    return Number(text) if len(text) > _SAFE_INTEGER or text == "-0" else int(text)


def _needs_care(raw: bytes) -> bool:
    """Whether some number would not come back with the text in which it was sent."""
    for find in _CAREFUL_NUMBERS:
        for found in find(raw):
            digits = found[1]
            if digits is None:
                return True
            if b"." not in digits:
                if len(digits) > _SAFE_INTEGER:
                    return True
            elif repr(float(digits)) != digits.decode():
                return True
    return False


def _careful(raw: bytes, pairs: _Pairs | None) -> Any:
    """The slow and exact parser: keeps decimals, and sees duplicate keys where it is given `pairs` (which costs as much again)."""
    try:
        return json.loads(
            raw.decode("utf-8"), object_pairs_hook=pairs, parse_float=_number, parse_int=_integer, parse_constant=_constant, strict=True
        )
    except json.JSONDecodeError as fault:
        raise _refuse(
            f"The content is not JSON: {fault.msg} at line {fault.lineno}, column {fault.colno}",
            f"内容不是合法的 JSON：第 {fault.lineno} 行第 {fault.colno} 列",
        ) from None
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> FhirError:
    return FhirError.of(400, "too-costly", f"The content is nested deeper than {MAX_DEPTH} levels", zh=f"内容嵌套超过 {MAX_DEPTH} 层")


_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'{}[]"')


def _surely_within(raw: bytes, limit: int) -> bool:
    """Whether the nesting is within the limit, told without looking at each bracket; False where it would take a closer look.

    Only brackets and quotes are kept, strings dropped, then innermost pairs taken away; each round takes one or two levels.
    """
    if b"\\" in raw:
        raw = _ESCAPE.sub(b"", raw)
    marks = raw.translate(None, _NO_MARKS).replace(b'""', b"")
    if b'"' in marks:
        marks = _STRING.sub(b"", marks)
    for _ in range(limit // 2):
        marks = marks.replace(b"{}", b"").replace(b"[]", b"")
        if not marks:
            return True
    return False


def _depth_within(raw: bytes, limit: int) -> bool:
    if raw.count(b"{") + raw.count(b"[") <= limit or _surely_within(raw, limit):
        return True
    depth = 0
    for token in _BRACKETS.finditer(raw):
        first = raw[token.start()]
        if first in b"[{":
            depth += 1
            if depth > limit:
                return False
        elif first in b"]}":
            depth -= 1
    return True


def loads_any(raw: bytes) -> Any:
    """Parse JSON of any top-level kind strictly; raises FhirError 400 that says where and why."""
    if not _depth_within(raw, MAX_DEPTH):
        raise _too_deep()
    if raw[:3] == b"\xef\xbb\xbf":
        raw = raw[3:]
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as fault:
        raise _explain(raw, fault) from None
    if _SPACED_KEY.search(raw) or (isinstance(value, dict | list) and raw.count(b'":') != orjson.dumps(value).count(b'":')):
        value = _careful(raw, _Pairs())
    elif _needs_care(raw):
        value = _careful(raw, None)
    if _CONTROL_ESCAPE.search(raw):
        _refuse_control_characters(value, "")
    return value


def _explain(raw: bytes, fault: orjson.JSONDecodeError) -> FhirError:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as bad:
        return _refuse(
            f"The content is not UTF-8: byte 0x{raw[bad.start]:02x} at offset {bad.start}", f"内容不是 UTF-8 编码：偏移 {bad.start}"
        )
    return _refuse(
        f"The content is not JSON: {str(fault).split(':')[0]} at line {fault.lineno}, column {fault.colno}",
        f"内容不是合法的 JSON：第 {fault.lineno} 行第 {fault.colno} 列",
    )


def _refuse_control_characters(value: Any, path: str) -> None:
    if isinstance(value, str):
        if found := _CONTROL.search(value):
            raise FhirError.of(
                400, "value", f"{path or 'The value'} holds the control character U+{ord(found[0]):04X}, which no FHIR string may", path
            )
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_control_characters(inner, f"{path}.{key}" if path else str(value.get("resourceType", "")) + f".{key}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            _refuse_control_characters(inner, f"{path}[{position}]")


def loads(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object strictly; raises FhirError 400 that says where and why."""
    value = loads_any(raw)
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
        raise _refuse(f"A JSON object is expected, not {kind}", "需要 JSON 对象")
    return value


def _default(value: Any) -> Any:
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    if isinstance(value, Decimal):
        return orjson.Fragment(plain(value))
    raise TypeError(f"{type(value).__name__} has no JSON form")


def plain(value: Decimal) -> str:
    """A decimal in JSON's number form, all digits kept."""
    try:
        return format(value, "f") if value.is_finite() else "null"
    except InvalidOperation:
        return str(value)


def dumps(value: Any) -> bytes:
    """Compact JSON bytes; numbers in the text in which they were sent."""
    return orjson.dumps(value, default=_default)


def pretty(raw: bytes) -> bytes:
    """The same JSON indented by two blanks; decimals keep their digits."""
    return orjson.dumps(loads_any(raw), default=_default, option=orjson.OPT_INDENT_2)
