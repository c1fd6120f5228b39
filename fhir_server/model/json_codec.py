"""Strict JSON in, canonical JSON out: decimal digits are kept, duplicate keys and what is not JSON are refused.

How it is fast and exact: orjson parses and writes the value again. Where the written text equals the sent one, blanks aside,
nothing was lost and no key came twice. Else the sent text is looked at more closely.
Specification: https://hl7.org/fhir/R4/json.html, RFC 8259
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

import orjson

from fhir_server.errors import FhirError

MAX_DEPTH = 100
"""Deepest nesting of objects and arrays that is read."""

_BLANKS = b" \t\r\n"
_BRACKETS = b"{}[]"
_NO_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))

# A number that a float or int might not give back as it was sent: with a point or exponent, beyond 64 bits, or minus zero.
_NUMBER = re.compile(rb"(?:\A|[:\[,])(-?\d+(?:\.\d+(?:[eE][+-]?\d+)?|[eE][+-]?\d+)|-?\d{19,}|-0)(?=[,\]}]|\Z)")
_ESCAPED_PUNCTUATION = re.compile(rb"\\u00[23]")  # may be a quote or colon, which spoils the counting of keys
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_CONTROL_ESCAPE = re.compile(rb"\\u00(?:0[0-8bBcCeEfF]|1[0-9a-fA-F])|\\[bf]|\\u[fF]{3}[eEfF]")


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


class _Twice(dict[str, Any]):
    """An object in which `key` came twice; the careful parser leaves it where it stands, to be reported with its path."""

    key: str


def loads(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object strictly; raises FhirError 400 that says where and why."""
    value = loads_any(raw)
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
        raise _refuse(f"A JSON object is expected, not {kind}", "需要 JSON 对象")
    return value


def loads_any(raw: bytes) -> Any:
    """Parse JSON of any top-level kind strictly; raises FhirError 400 that says where and why."""
    if raw[:3] == b"\xef\xbb\xbf":
        raw = raw[3:]
    try:
        value = orjson.loads(raw)
        written = orjson.dumps(value)
    except orjson.JSONDecodeError as fault:
        raise _explain(raw, fault) from None
    except orjson.JSONEncodeError:
        raise _too_deep() from None
    if _too_nested(written):
        raise _too_deep()
    if written != raw:
        value = _compared(raw, value, written)
    if (b"\\" in raw and _CONTROL_ESCAPE.search(raw)) or b"\xef\xbf\xbe" in raw or b"\xef\xbf\xbf" in raw:
        _refuse_control_characters(value, "")
    return value


def loads_stored(raw: bytes) -> dict[str, Any]:
    """Parse what is stored: also what would no longer be taken, so that it can still be read, changed and deleted."""
    try:
        return loads(raw)
    except FhirError:
        value: dict[str, Any] = json.loads(raw, parse_float=number, parse_int=integer)
        return value


def _compared(raw: bytes, value: Any, written: bytes) -> Any:
    """The value with all digits kept, where the written text differs from the sent one."""
    sent, written = raw.translate(None, _BLANKS), written.translate(None, _BLANKS)
    if sent == written:
        return value
    if sent.count(b'":') != written.count(b'":') or _ESCAPED_PUNCTUATION.search(sent):
        return _careful(raw)
    if all(_as_sent(text) for text in _NUMBER.findall(sent)):
        return value
    return json.loads(raw, parse_float=number, parse_int=integer)


def _too_nested(written: bytes) -> bool:
    """Whether compact JSON is nested deeper than MAX_DEPTH: pairs of brackets are taken away from the inside outwards."""
    if written.count(b"{") + written.count(b"[") <= MAX_DEPTH:
        return False
    skeleton = written.translate(None, _NO_BRACKETS)
    for _ in range(MAX_DEPTH // 2):  # each round takes away two levels at most, so what vanishes here is within the limit
        shorter = skeleton.replace(b"{}", b"").replace(b"[]", b"")
        if not shorter:
            return False
        if len(shorter) == len(skeleton):
            break  # brackets inside strings spoil the pairs
        skeleton = shorter
    return _depth(json.loads(written)) > MAX_DEPTH


def _depth(value: Any) -> int:
    """Levels of objects and arrays."""
    depth, level = 0, [value]
    while level := [inner for inner in level if isinstance(inner, dict | list)]:
        depth += 1
        level = [part for inner in level for part in (inner.values() if isinstance(inner, dict) else inner)]
    return depth


def _careful(raw: bytes) -> Any:
    """The slow and exact parser: keeps decimals, sees duplicate keys. orjson has taken the text before."""
    twice: list[_Twice] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        marked = _Twice(made)
        keys = [key for key, _ in pairs]
        marked.key = next(key for position, key in enumerate(keys) if key in keys[:position])
        twice.append(marked)
        return marked

    value = json.loads(raw, object_pairs_hook=unique, parse_float=number, parse_int=integer)
    if twice:
        _refuse_twice(value, twice[0])
    return value


def _refuse_twice(value: Any, marked: _Twice) -> NoReturn:
    path = _path_to(value, marked, "")
    if path is None:  # it stood in the first of two values of one key, and is gone with it
        path = _path_to(value, None, "") or ""
    where = f"{path}.{marked.key}" if path else marked.key
    raise FhirError.of(
        400,
        "structure",
        f"{where}: the key '{marked.key}' stands twice in one JSON object; keys must be unique",
        where,
        zh=f"{where}：JSON 对象中键“{marked.key}”重复",
    )


def _path_to(value: Any, wanted: _Twice | None, path: str) -> str | None:
    """The path of an object in which a key came twice: the wanted one, or any."""
    if isinstance(value, dict):
        path = path or str(value.get("resourceType", ""))
        if value is wanted or (wanted is None and isinstance(value, _Twice)):
            return path
        parts = [(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
    elif isinstance(value, list):
        parts = [(f"{path}[{index}]", inner) for index, inner in enumerate(value)]
    else:
        return None
    return next((found for place, inner in parts if (found := _path_to(inner, wanted, place)) is not None), None)


def _as_sent(text: bytes) -> bool:
    """Whether a number would be written again in the text in which it was sent."""
    return orjson.dumps(orjson.loads(text)) == text


def number(text: str) -> float | Number:
    """A number of JSON with a point or exponent; its text is kept where a float would be written otherwise."""
    value = float(text)
    return value if repr(value) == text and orjson.dumps(value) == text.encode() else Number(text)


def integer(text: str) -> int | Number:
    """A whole number of JSON."""
    return Number(text) if len(text) > 18 or text == "-0" else int(text)


def _refuse(what: str, zh: str) -> FhirError:
    return FhirError.of(400, "structure", what, zh=zh)


def _too_deep() -> FhirError:
    return FhirError.of(400, "too-costly", f"The content is nested deeper than {MAX_DEPTH} levels", zh=f"内容嵌套超过 {MAX_DEPTH} 层")


def _explain(raw: bytes, fault: orjson.JSONDecodeError) -> FhirError:
    if "depth" in str(fault) or "recursion" in str(fault).lower():
        return _too_deep()
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as bad:
        what = f"The content is not UTF-8: byte 0x{raw[bad.start]:02x} at offset {bad.start}"
        return _refuse(what, f"内容不是 UTF-8 编码：偏移 {bad.start}")
    return _refuse(
        f"The content is not JSON: {str(fault).split(': line')[0]} at line {fault.lineno}, column {fault.colno}",
        f"内容不是合法的 JSON：第 {fault.lineno} 行第 {fault.colno} 列",
    )


def _refuse_control_characters(value: Any, path: str) -> None:
    if isinstance(value, str):
        if found := _CONTROL.search(value):
            what = f"{path or 'The value'} holds the character U+{ord(found[0]):04X}, which no FHIR string may"
            raise FhirError.of(400, "value", what, path, zh=f"{path} 含有不允许的字符 U+{ord(found[0]):04X}")
    elif isinstance(value, dict):
        path = path or str(value.get("resourceType", ""))
        for key, inner in value.items():
            place = f"{path}.{key}" if path else key
            _refuse_control_characters(key, place)
            _refuse_control_characters(inner, place)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            _refuse_control_characters(inner, f"{path}[{position}]")


def _default(value: Any) -> Any:
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    if isinstance(value, Decimal):
        return orjson.Fragment(plain(value))
    if isinstance(value, int):
        return orjson.Fragment(str(value))  # beyond 64 bits
    raise TypeError(f"{type(value).__name__} has no JSON form")


def plain(value: Decimal) -> str:
    """A finite decimal in JSON's number form without exponent, all digits kept; raises ValueError for NaN and infinity."""
    if not value.is_finite():
        raise ValueError(f"{value} has no JSON form")
    return format(value, "f")


def dumps(value: Any) -> bytes:
    """Compact JSON bytes; numbers in the text in which they were sent."""
    return orjson.dumps(value, default=_default)


def pretty(raw: bytes) -> bytes:
    """The same JSON indented by two blanks; decimals keep their digits."""
    return orjson.dumps(loads_any(raw), default=_default, option=orjson.OPT_INDENT_2)
