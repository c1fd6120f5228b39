"""Strings.

Specification: http://hl7.org/fhirpath/N1/#string-manipulation
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Collection, Env, Evaluator, integer, string
from fhir_server.fhirpath.functions.declare import Function, answer, env_focus
from fhir_server.fhirpath.items import of_system

_MAX_PATTERN = 2000


@lru_cache(maxsize=256)
def pattern(text: str) -> re.Pattern[str]:
    """A regular expression of FHIRPath (PCRE without surprises); raises FhirPathError."""
    if len(text) > _MAX_PATTERN:
        raise FhirPathError(f"a regular expression may have {_MAX_PATTERN} characters at most")
    try:
        return re.compile(text, re.S)
    except re.error as fault:
        raise FhirPathError(f"'{text}' is no regular expression: {fault}") from None


def _strings(name: str, work: Callable[..., Any], arguments: int = 0) -> Function:
    """A function of a string and of string arguments; empty when one of them is."""

    def make(*evaluators: Evaluator) -> Evaluator:
        def evaluate(env: Env, focus: Collection) -> Collection:
            value = string(focus, f"{name}()")
            given = [string(one(env, env_focus(env, focus)), f"{name}()") for one in evaluators]
            if value is None or any(one is None for one in given):
                return []
            return answer(work(value, *given))

        return evaluate

    return Function(make, arguments, arguments)


def _substring(start: Evaluator, length: Evaluator | None = None) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        value, here = string(focus, "substring()"), env_focus(env, focus)
        first = integer(start(env, here), "substring()")
        if value is None or first is None or not 0 <= first < len(value):
            return []
        count = integer(length(env, here), "substring()") if length else None
        return [of_system(value[first:] if count is None else value[first : first + max(count, 0)])]

    return evaluate


def _characters(env: Env, focus: Collection) -> Collection:
    value = string(focus, "toChars()")
    return [] if value is None else [of_system(one) for one in value]


def _split(separator: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        value, between = string(focus, "split()"), string(separator(env, env_focus(env, focus)), "split()")
        if value is None or between is None:
            return []
        return [of_system(part) for part in (value.split(between) if between else list(value))]

    return evaluate


def _join(separator: Evaluator | None = None) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        between = string(separator(env, env_focus(env, focus)), "join()") if separator else ""
        parts = [string([item], "join()") for item in focus]
        return [of_system((between or "").join(part for part in parts if part is not None))] if parts else []

    return evaluate


def _encode(text: str, form: str) -> str | None:
    raw = text.encode()
    if form == "hex":
        return raw.hex()
    if form == "base64":
        return base64.b64encode(raw).decode()
    return base64.urlsafe_b64encode(raw).decode() if form == "urlbase64" else None


def _decode(text: str, form: str) -> str | None:
    try:
        if form == "hex":
            return bytes.fromhex(text).decode()
        if form == "base64":
            return base64.b64decode(text, validate=True).decode()
        return base64.urlsafe_b64decode(text).decode() if form == "urlbase64" else None
    except (ValueError, binascii.Error) as fault:
        raise FhirPathError(f"decode(): '{text[:40]}' is not {form}: {fault}") from None


_JSON = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}


def _escape(text: str, form: str) -> str | None:
    if form == "html":
        return html.escape(text, quote=True).replace("&#x27;", "&#39;")
    return "".join(_JSON.get(one, one) for one in text) if form == "json" else None


def _unescape(text: str, form: str) -> str | None:
    if form == "html":
        return html.unescape(text)
    if form != "json":
        return None
    back = {value: key for key, value in _JSON.items()}
    return re.sub(
        r"\\(?:u([0-9a-fA-F]{4})|.)", lambda found: chr(int(found[1], 16)) if found[1] else back.get(found[0], found[0][1:]), text
    )


def _replace(value: str, old: str, new: str) -> str:
    return value.replace(old, new) if old else new + new.join(value) + new


def _replace_matches(value: str, expression: str, new: str) -> str:
    if not expression:
        return value
    return pattern(expression).sub(
        re.sub(r"\$(\d+|\{\w+\})", lambda found: "\\g<" + found[1].strip("{}") + ">", new.replace("\\", "\\\\")), value
    )


FUNCTIONS = {
    "indexOf": _strings("indexOf", lambda value, part: value.find(part), 1),
    "lastIndexOf": _strings("lastIndexOf", lambda value, part: value.rfind(part), 1),
    "substring": Function(_substring, 1, 2),
    "startsWith": _strings("startsWith", lambda value, part: value.startswith(part), 1),
    "endsWith": _strings("endsWith", lambda value, part: value.endswith(part), 1),
    "contains": _strings("contains", lambda value, part: part in value, 1),
    "upper": _strings("upper", lambda value: value.upper()),
    "lower": _strings("lower", lambda value: value.lower()),
    "replace": _strings("replace", _replace, 2),
    "matches": _strings("matches", lambda value, expression: pattern(expression).search(value) is not None, 1),
    "matchesFull": _strings("matchesFull", lambda value, expression: pattern(expression).fullmatch(value) is not None, 1),
    "replaceMatches": _strings("replaceMatches", _replace_matches, 2),
    "length": _strings("length", len),
    "toChars": Function(lambda: _characters),
    "split": Function(_split, 1, 1),
    "join": Function(_join, 0, 1),
    "trim": _strings("trim", lambda value: value.strip()),
    "encode": _strings("encode", _encode, 1),
    "decode": _strings("decode", _decode, 1),
    "escape": _strings("escape", _escape, 1),
    "unescape": _strings("unescape", _unescape, 1),
}
