"""Formats of the primitive types: a quick test that surely valid values pass, and the exact reason where it fails.

Specification: https://hl7.org/fhir/R4/datatypes.html#primitive
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from math import isfinite
from typing import Any, NamedTuple

from fhir_server.model import dates
from fhir_server.model.json_codec import Number

MAX_STRING = 1024 * 1024
"""Longest string in characters ("strings SHALL NOT exceed 1MB in size")."""

Fault = tuple[str, str] | None
"""Why a value is wrong, in English and Chinese; None when it is right."""


class Primitive(NamedTuple):
    """`kind`: the JSON kind due, in words; `quick`: true only for valid values; `fault`: decides what quick left open.

    `quick` of a text is asked only for texts of 1 to MAX_STRING characters.
    """

    kind: str
    quick: Callable[[Any], Any]
    fault: Callable[[Any], Fault]


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_BLANKS = re.compile(r"[ \t\r\n]")
_CODE = re.compile(r"[^ \t\r\n\f\v]+(?:[ \t\r\n][^ \t\r\n\f\v]+)*\Z")
_OID = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+\Z")
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")

_WHOLE = re.compile(r"(?:0|-?[1-9][0-9]*)\Z")

_EMPTY: Fault = ("is empty", "为空")


def string_fault(value: str) -> Fault:
    """https://hl7.org/fhir/R4/datatypes.html#string"""
    if not value:
        return _EMPTY
    if len(value) > MAX_STRING:
        return (f"has {len(value)} characters; at most {MAX_STRING} are allowed", f"长度 {len(value)} 超过上限 {MAX_STRING} 个字符")
    if found := _CONTROL.search(value):
        return (f"holds the character U+{ord(found[0]):04X}, which no FHIR string may", f"含有不允许的字符 U+{ord(found[0]):04X}")
    return None


def uri_fault(value: str) -> Fault:
    """uri, url and canonical."""
    if _BLANKS.search(value):
        return ("must not contain whitespace", "不得含空白字符")
    return string_fault(value)


def _pattern_fault(pattern: re.Pattern[str], english: str, chinese: str) -> Callable[[str], Fault]:
    def fault(value: str) -> Fault:
        if not value:
            return _EMPTY
        return string_fault(value) if pattern.match(value) else (english, chinese)

    return fault


def _date_fault(check: Callable[[str], str | None], chinese: str) -> Callable[[str], Fault]:
    def fault(value: str) -> Fault:
        why = check(value)
        return None if why is None else (why, chinese)

    return fault


def base64_fault(value: str) -> Fault:
    """Whitespace is allowed between the characters."""
    bare = "".join(value.split())
    if not bare:
        return _EMPTY
    try:
        binascii.a2b_base64(bare.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        return ("is not base64 (groups of four of A-Z, a-z, 0-9, +, / with = at the end)", "不是合法的 base64")
    return None


def _integer_fault(low: int, high: int) -> Callable[[Any], Fault]:
    def fault(value: Any) -> Fault:
        if type(value) is not int and not (isinstance(value, Number) and _WHOLE.match(value.text)):
            return ("must be a whole number, without decimal point or exponent", "必须是整数，不带小数点和指数")
        if not low <= value <= high:
            return (f"must be between {low} and {high}", f"必须在 {low} 与 {high} 之间")
        return None

    return fault


def _no_fault(value: Any) -> Fault:
    return None


def _usual(value: Any) -> bool:
    return value.__class__ is not Number


def _decimal_fault(value: Any) -> Fault:
    """A number that no double holds could not be read as JSON again."""
    return None if isfinite(float(value)) else ("is beyond 1.8e308", "超出 1.8e308")


_MONTH_DAY = r"(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|1[0-9]|2[0-8])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
_ZONE = r"(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])"
_QUICK_DATE = re.compile(rf"[1-9][0-9]{{3}}(?:-{_MONTH_DAY})?)?\Z").match
_QUICK_DATE_TIME = re.compile(rf"[1-9][0-9]{{3}}(?:-{_MONTH_DAY}(?:T{_CLOCK}{_ZONE})?)?)?\Z").match
_QUICK_INSTANT = re.compile(rf"[1-9][0-9]{{3}}-{_MONTH_DAY})T{_CLOCK}{_ZONE}\Z").match
_QUICK_TIME = re.compile(rf"{_CLOCK}\Z").match
_QUICK_URI = re.compile(r"[!\"$-~][!-~]*\Z").match  # not of a leading '#': that is looked at for its target
_QUICK_CODE = re.compile(r"[!-~]+(?: [!-~]+)*\Z").match


def _never(value: str) -> bool:
    return False


def _always(value: Any) -> bool:
    return True


_MUST_BE_CODE = ("must not begin or end with whitespace or hold more than one blank in a row", "首尾不得有空白，中间不得有连续空白")
_MUST_BE_ID = ("must be 1 to 64 of the characters A-Z, a-z, 0-9, - and .", "必须是 1 至 64 个 A-Z、a-z、0-9、-、. 字符")
_MUST_BE_OID = ("must be urn:oid: and numbers joined by dots", "必须形如 urn:oid:1.2.3")
_MUST_BE_UUID = ("must be urn:uuid: and a lower-case UUID", "必须是 urn:uuid: 加小写 UUID")
_DATE_ZH = "必须是存在的日期，形如 YYYY、YYYY-MM 或 YYYY-MM-DD"
_DATE_TIME_ZH = "必须是存在的日期时间，形如 YYYY-MM-DD 或 YYYY-MM-DDThh:mm:ss+08:00"
_INSTANT_ZH = "必须是存在的时刻，形如 YYYY-MM-DDThh:mm:ss.sss+08:00"
_TIME_ZH = "必须形如 hh:mm:ss，不带时区"


def _text(quick: Callable[[str], Any], fault: Callable[[str], Fault]) -> Primitive:
    return Primitive("a string", quick, fault)


def _whole(low: int, high: int) -> Primitive:
    return Primitive("a number", lambda value: type(value) is int and low <= value <= high, _integer_fault(low, high))


PRIMITIVES: dict[str, Primitive] = {
    "string": _text(str.isprintable, string_fault),
    "markdown": _text(str.isprintable, string_fault),
    "code": _text(_QUICK_CODE, _pattern_fault(_CODE, *_MUST_BE_CODE)),
    "id": _text(_ID.match, _pattern_fault(_ID, *_MUST_BE_ID)),
    "uri": _text(_QUICK_URI, uri_fault),
    "url": _text(_QUICK_URI, uri_fault),
    "canonical": _text(_QUICK_URI, uri_fault),
    "oid": _text(_OID.match, _pattern_fault(_OID, *_MUST_BE_OID)),
    "uuid": _text(_UUID.match, _pattern_fault(_UUID, *_MUST_BE_UUID)),
    "base64Binary": _text(_never, base64_fault),
    "date": _text(_QUICK_DATE, _date_fault(dates.check_date, _DATE_ZH)),
    "dateTime": _text(_QUICK_DATE_TIME, _date_fault(dates.check_date_time, _DATE_TIME_ZH)),
    "instant": _text(_QUICK_INSTANT, _date_fault(dates.check_instant, _INSTANT_ZH)),
    "time": _text(_QUICK_TIME, _date_fault(dates.check_time, _TIME_ZH)),
    "xhtml": _text(_never, string_fault),
    "boolean": Primitive("a boolean", _always, _no_fault),
    "decimal": Primitive("a number", _usual, _decimal_fault),
    "integer": _whole(-(2**31), 2**31 - 1),
    "unsignedInt": _whole(0, 2**31 - 1),
    "positiveInt": _whole(1, 2**31 - 1),
}
"""Every primitive type of R4."""
