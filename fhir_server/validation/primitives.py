"""Formats of the primitive types: a quick test that surely valid values pass, and the exact reason where it fails.

Specification: https://hl7.org/fhir/R4/datatypes.html#primitive
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from fhir_server.model import dates
from fhir_server.model.json_codec import Number

MAX_STRING = 1024 * 1024
"""Longest string in characters ("strings SHALL NOT exceed 1MB in size")."""

Fault = tuple[str, str] | None
"""Why a value is wrong, in English and Chinese; None when it is right."""


class Primitive(NamedTuple):
    """`kind`: the JSON kind due, in words; `quick`: true only for valid values of that kind; `fault`: decides what quick left open."""

    kind: str
    quick: Callable[[Any], Any]
    fault: Callable[[Any], Fault]


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_BLANKS = re.compile(r"[ \t\r\n]")
_CODE = re.compile(r"[^ \t\r\n\f\v]+(?:[ \t\r\n][^ \t\r\n\f\v]+)*\Z")
_OID = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+\Z")
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")

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
        if type(value) is not int and not (isinstance(value, Number) and value.text.lstrip("-").isdigit()):
            return ("must be a whole number, without decimal point or exponent", "必须是整数，不带小数点和指数")
        if not low <= value <= high:
            return (f"must be between {low} and {high}", f"必须在 {low} 与 {high} 之间")
        return None

    return fault


def _no_fault(value: Any) -> Fault:
    return None


def _quick_string(value: str) -> bool:
    return value.isprintable() and 0 < len(value) <= MAX_STRING


_MONTH_DAY = r"(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|1[0-9]|2[0-8])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
_ZONE = r"(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])"
_QUICK_DATE = re.compile(rf"[1-9][0-9]{{3}}(?:-{_MONTH_DAY})?)?\Z").match
_QUICK_DATE_TIME = re.compile(rf"[1-9][0-9]{{3}}(?:-{_MONTH_DAY}(?:T{_CLOCK}{_ZONE})?)?)?\Z").match
_QUICK_INSTANT = re.compile(rf"[1-9][0-9]{{3}}-{_MONTH_DAY})T{_CLOCK}{_ZONE}\Z").match
_QUICK_TIME = re.compile(rf"{_CLOCK}\Z").match
_QUICK_URI = re.compile(r"[!\"$-~][!-~]*\Z").match  # not of a leading '#': that is looked at for its target
_QUICK_CODE = re.compile(r"[!-~]+(?: [!-~]+)*\Z").match

_INT32 = 2**31 - 1

PRIMITIVES: dict[str, Primitive] = {
    "string": Primitive("a string", _quick_string, string_fault),
    "markdown": Primitive("a string", _quick_string, string_fault),
    "code": Primitive("a string", _QUICK_CODE, _pattern_fault(_CODE, "must not begin or end with whitespace or hold more than one blank in a row", "首尾不得有空白，中间不得有连续空白")),
    "id": Primitive("a string", _ID.match, _pattern_fault(_ID, "must be 1 to 64 of the characters A-Z, a-z, 0-9, - and .", "必须是 1 至 64 个 A-Z、a-z、0-9、-、. 字符")),
    "uri": Primitive("a string", _QUICK_URI, uri_fault),
    "url": Primitive("a string", _QUICK_URI, uri_fault),
    "canonical": Primitive("a string", _QUICK_URI, uri_fault),
    "oid": Primitive("a string", _OID.match, _pattern_fault(_OID, "must be urn:oid: and numbers joined by dots", "必须形如 urn:oid:1.2.3")),
    "uuid": Primitive("a string", _UUID.match, _pattern_fault(_UUID, "must be urn:uuid: and a lower-case UUID", "必须是 urn:uuid: 加小写 UUID")),
    "base64Binary": Primitive("a string", lambda value: False, base64_fault),
    "date": Primitive("a string", _QUICK_DATE, _date_fault(dates.check_date, "必须是存在的日期，形如 YYYY、YYYY-MM 或 YYYY-MM-DD")),
    "dateTime": Primitive("a string", _QUICK_DATE_TIME, _date_fault(dates.check_date_time, "必须是存在的日期时间，形如 YYYY-MM-DD 或 YYYY-MM-DDThh:mm:ss+08:00（有时间则必须有秒和时区）")),
    "instant": Primitive("a string", _QUICK_INSTANT, _date_fault(dates.check_instant, "必须是存在的时刻，形如 YYYY-MM-DDThh:mm:ss.sss+08:00")),
    "time": Primitive("a string", _QUICK_TIME, _date_fault(dates.check_time, "必须形如 hh:mm:ss，不带时区")),
    "xhtml": Primitive("a string", lambda value: False, string_fault),
    "boolean": Primitive("a boolean", lambda value: True, _no_fault),
    "decimal": Primitive("a number", lambda value: True, _no_fault),
    "integer": Primitive("a number", lambda value: type(value) is int and -_INT32 <= value <= _INT32, _integer_fault(-_INT32 - 1, _INT32)),
    "unsignedInt": Primitive("a number", lambda value: type(value) is int and 0 <= value <= _INT32, _integer_fault(0, _INT32)),
    "positiveInt": Primitive("a number", lambda value: type(value) is int and 0 < value <= _INT32, _integer_fault(1, _INT32)),
}  # fmt: skip
"""Every primitive type of R4."""
