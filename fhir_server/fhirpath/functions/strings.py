"""Strings.

Specification: http://hl7.org/fhirpath/N1/#string-manipulation, http://hl7.org/fhirpath/#additional-string-functions
"""

from __future__ import annotations

import base64
import binascii
import html
import re

from fhir_server.fhirpath.code import EMPTY, Code, of_value
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Env, checked_text, integer, string
from fhir_server.fhirpath.functions.declare import Function, Site, on_text
from fhir_server.fhirpath.functions.regex import pattern, replaced
from fhir_server.fhirpath.items import Collection


def _substring(site: Site) -> Code:
    source, start, name = site.input, site.argument(0), site.name
    length = site.argument(1) if site.given > 1 else None

    def value(focus: Collection, env: Env) -> str | None:
        text, first = string(source(focus, env), name), integer(start(focus, env), name)
        if text is None or first is None or not 0 <= first < len(text):
            return None
        count = integer(length(focus, env), name) if length else None
        return text[first:] if count is None else text[first : first + max(count, 0)]

    return of_value(value)


def _characters(site: Site) -> Code:
    source, name = site.input, site.name

    def evaluate(focus: Collection, env: Env) -> Collection:
        found = list(string(source(focus, env), name) or "")
        env.spend(len(found))
        return found

    return Code(evaluate)


def _split(site: Site) -> Code:
    source, separator, name = site.input, site.argument(0), site.name

    def evaluate(focus: Collection, env: Env) -> Collection:
        text, between = string(source(focus, env), name), string(separator(focus, env), name)
        if text is None or between is None:
            return EMPTY
        found: Collection = text.split(between) if between else list(text)
        env.spend(len(found))
        return found

    return Code(evaluate)


def _join(site: Site) -> Code:
    source, name = site.input, site.name
    separator = site.argument(0) if site.given else None

    def value(focus: Collection, env: Env) -> str | None:
        items = source(focus, env)
        between = (string(separator(focus, env), name) if separator else None) or ""
        parts = [text for item in items if (text := string([item], name)) is not None]
        return checked_text(between.join(parts)) if items else None

    return of_value(value)


def _encode(text: str, form: str) -> str | None:
    raw = text.encode("utf-8", "surrogatepass")
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
        what = f"decode(): '{text[:40]}' is not {form} of a text: {fault}"
        raise FhirPathError(what, f"decode()：“{text[:40]}”不是文本的 {form} 编码：{fault}") from None


_JSON = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b"}
_FROM_JSON = {**{value[1]: key for key, value in _JSON.items()}, "/": "/"}
_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.S)


def _escape(text: str, form: str) -> str | None:
    if form == "html":
        return html.escape(text, quote=True).replace("&#x27;", "&#39;")
    return "".join(_JSON.get(one, one) for one in text) if form == "json" else None


def _unescape(text: str, form: str) -> str | None:
    if form == "html":
        return html.unescape(text)
    if form != "json":
        return None
    return _JSON_ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _FROM_JSON.get(found[2], found[2]), text)


def _replace(text: str, old: str, new: str) -> str:
    if len(new) > 1 and text.count(old) * len(new) > 10_000_000:
        checked_text("x" * 10_000_001)
    return checked_text(text.replace(old, new))


FUNCTIONS = {
    "indexOf": on_text(lambda text, part: text.find(part), 1),
    "lastIndexOf": on_text(lambda text, part: text.rfind(part), 1),
    "substring": Function(_substring, 1, 2),
    "startsWith": on_text(lambda text, part: text.startswith(part), 1, condition=True),
    "endsWith": on_text(lambda text, part: text.endswith(part), 1, condition=True),
    "contains": on_text(lambda text, part: part in text, 1, condition=True),
    "upper": on_text(lambda text: text.upper()),
    "lower": on_text(lambda text: text.lower()),
    "replace": on_text(_replace, 2),
    "matches": on_text(lambda text, expression: pattern(expression).search(text), 1, condition=True),
    "matchesFull": on_text(lambda text, expression: pattern(expression).fullmatch(text), 1, condition=True),
    "replaceMatches": on_text(lambda text, expression, new: checked_text(replaced(text, expression, new)), 2),
    "length": on_text(len),
    "toChars": Function(_characters),
    "split": Function(_split, 1, 1),
    "join": Function(_join, 0, 1),
    "trim": on_text(lambda text: text.strip()),
    "encode": on_text(_encode, 1),
    "decode": on_text(_decode, 1),
    "escape": on_text(_escape, 1),
    "unescape": on_text(_unescape, 1),
}
