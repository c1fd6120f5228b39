"""OBX values, reference ranges and flags.

Specification: HL7 v2.5.1 chapter 7.4.2; v2-to-FHIR guide, segment OBX to Observation
"""

from __future__ import annotations

import base64
import re
import unicodedata
from functools import lru_cache
from typing import Any

from integrations.hl7v2 import codes
from integrations.hl7v2.datatypes import Element, Source, concept, decimal, number, present, unit
from integrations.hl7v2.message import Field, Segment
from integrations.hl7v2.times import fhir_time

_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:-{1,2}|~|—|–|to|至)\s*(-?\d+(?:\.\d+)?)\Z", re.ASCII | re.I)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}\Z", re.ASCII)
_EDGE = re.compile(r"(<=|>=|≤|≥|<|>)\s*(-?\d+(?:\.\d+)?)\Z")
_LONGEST = 200
"""Signs of a range that is read; a longer one is kept as text."""
_SEXES = re.compile(r"(男|女)(?:性)?\s*[:：]?\s*([^;；,，男女]+)")


def absent(reason: str) -> Element:
    """A dataAbsentReason."""
    return {"dataAbsentReason": {"coding": [{"system": _ABSENT, "code": reason}]}}


_TEXTS = ("", "ST", "TX", "FT")


def value(segment: Segment, source: Source, warnings: list[str]) -> Element:
    """value[x] (or dataAbsentReason) of an OBX after OBX-2; several values of another type than text become components."""
    repeats = segment.fields(5)
    kind = segment.value(2).strip().upper()
    if not repeats or repeats[0].deletes:
        return absent("unknown")
    if kind in _TEXTS:
        text = "\n".join(one.text for one in repeats)
        return {"valueString": text} if text.strip() else absent("unknown")
    if len(repeats) == 1 or kind in ("ED", "RP"):
        return _one(kind, repeats[0], segment, source, warnings)
    code = concept(segment.field(3), source, "lis") or {"text": "?"}
    return {"component": [{"code": code, **_one(kind, one, segment, source, warnings)} for one in repeats]}


def _one(kind: str, item: Field, segment: Segment, source: Source, warnings: list[str]) -> Element:
    """One value after OBX-2; what cannot be read as its type says is kept as text, with a warning."""
    found: Element | None
    if kind == "NM":
        parsed = number(item.text)
        found = {"valueQuantity": _quantity(*parsed, segment)} if parsed else None
    elif kind == "SN":
        found = _structured([item.part(k) for k in (1, 2, 3, 4)], segment)
    elif kind in ("CE", "CWE", "CF", "CNE", "IS", "ID"):
        coded = concept(item, source, "lis")
        found = {"valueCodeableConcept": coded} if coded else None
    elif kind in ("DT", "TS", "DTM"):
        when = fhir_time(item.part(1), source.zone)
        found = {"valueDateTime": when} if when else None
    elif kind == "TM":
        found = _time(item.text)
    elif kind == "DR":
        ends = {"start": fhir_time(item.part(1), source.zone), "end": fhir_time(item.part(2), source.zone)}
        found = {"valuePeriod": present(**ends)} if any(ends.values()) else None
    elif kind == "NR":
        bounds = {side: number(item.part(at)) for side, at in (("low", 1), ("high", 2))}
        found = (
            {"valueRange": {side: _quantity("", one[1], segment) for side, one in bounds.items() if one}} if any(bounds.values()) else None
        )
    elif kind in ("ED", "RP"):
        return {"valueString": "see DiagnosticReport.presentedForm"}
    else:
        return {"valueString": item.text}
    if found is None:
        warnings.append(f"{segment.place(5)}: it is no {kind}; it is kept as text")
        return {"valueString": item.text}
    return found


_MEDIA = {"ap": "application", "application": "application", "au": "audio", "audio": "audio", "im": "image", "image": "image"}
_MEDIA |= {"ft": "text", "text": "text", "video": "video"}
"""Table 0191 and media types as they are written."""


def attachment(segment: Segment, warnings: list[str]) -> Element | None:
    """The document in an OBX of type ED or RP as an Attachment, or None (also for one whose content is not base64)."""
    kind = segment.value(2).strip().upper()
    item = segment.field(5)
    if kind == "RP" and item.part(1):
        return {"url": item.part(1), "title": segment.value(3, 2) or segment.value(3)}
    if kind != "ED":
        return None
    media, subtype, encoding, data = (item.part(k) for k in (2, 3, 4, 5))
    form = f"{_MEDIA.get(media.lower(), 'application')}/{subtype.lower() or 'octet-stream'}" if media or subtype else None
    if encoding.lower() == "base64":
        content = "".join(data.split())
        if not _BASE64.match(content) or len(content) % 4:
            warnings.append(f"{segment.place(5)}: the document is not base64; it is left out")
            return None
    else:
        content = base64.b64encode(data.encode()).decode()
    return present(contentType=form, data=content, title=segment.value(3, 2) or segment.value(3))


def _time(text: str) -> Element | None:
    found = re.match(r"(\d\d)(\d\d)(\d\d)?", text, re.ASCII)
    if found and int(found[1]) < 24 and int(found[2]) < 60 and int(found[3] or 0) < 60:
        return {"valueTime": f"{found[1]}:{found[2]}:{found[3] or '00'}"}
    return None


def _quantity(comparator: str, digits: str, segment: Segment) -> Element:
    start: Element = {"value": decimal(digits), "comparator": comparator} if comparator else {"value": decimal(digits)}
    return start | unit(segment.field(6))


def _structured(parts: list[str], segment: Segment) -> Element | None:
    """SN: comparator, number, separator, number."""
    comparator, first, separator, second = parts
    one, two = number(first), number(second) if second else None
    text = "".join(parts)
    if one is None:
        return {"valueString": text} if text else absent("unknown")
    if separator == "-" and two:
        return {"valueRange": {"low": _quantity("", one[1], segment), "high": _quantity("", two[1], segment)}}
    if separator in (":", "/") and two:
        return {"valueRatio": {"numerator": {"value": decimal(one[1])}, "denominator": {"value": decimal(two[1])}}}
    if separator or second:
        return {"valueString": text}
    if comparator and comparator not in ("<", ">", "<=", ">=", "="):
        return {"valueString": text}
    return {"valueQuantity": _quantity((comparator.replace("=", "") and comparator) or one[0], one[1], segment)}


def _bounds(text: str, measure: Element) -> Element:
    """Low and high of a written range, as far as it can be read."""
    edges = _edges(text) if len(text) <= _LONGEST else ()
    return {side: {"value": decimal(digits), **measure} for side, digits in edges}


@lru_cache(maxsize=1024)
def _edges(text: str) -> tuple[tuple[str, str], ...]:
    """('low' or 'high', digits) of a written range."""
    text = unicodedata.normalize("NFKC", text).strip()
    if found := _RANGE.match(text):
        low, high = number(found[1]), number(found[2])
        if low and high:
            return ("low", low[1]), ("high", high[1])
    if found := _EDGE.match(text):
        edge = number(found[2])
        if edge:
            return (("high" if found[1] in ("<", "<=", "≤") else "low", edge[1]),)
    return ()


def reference_ranges(segment: Segment) -> list[Element]:
    """OBX-7: its text always, low and high where they can be read; two entries where it is split by sex."""
    text = segment.field(7).text.strip()
    if not text:
        return []
    measure = unit(segment.field(6))
    sexes = _SEXES.findall(text) if "男" in text and "女" in text else []
    if len(sexes) >= 2:
        return [
            _bounds(part, measure)
            | {
                "appliesTo": [
                    {
                        "coding": [{"system": "http://hl7.org/fhir/administrative-gender", "code": "male" if sex == "男" else "female"}],
                        "text": sex,
                    }
                ],
                "text": f"{sex}: {part.strip()}",
            }
            for sex, part in sexes
        ]
    return [_bounds(text, measure) | {"text": text}]


def interpretations(segment: Segment, warnings: list[str]) -> list[Element]:
    """OBX-8 with its repeats; a critical flag without a side gets it from the range; what is not known stays text."""
    found = []
    for field in segment.fields(8):
        flag = field.part(1).strip()
        coding = codes.coding("interpretation", flag) or codes.coding("interpretation", flag.upper())
        if coding is None:
            warnings.append(f"OBX-8: the flag '{flag}' is not known; it is kept as text")
            found.append({"text": field.text})
            continue
        if coding["code"] == "AA":
            coding = coding | {"code": _side(segment) or "AA"}
        concept: dict[str, Any] = {"coding": [coding]}
        if flag != coding["code"]:
            concept["text"] = flag
        found.append(concept)
    return found


def _side(segment: Segment) -> str | None:
    """HH or LL for a critical value outside its range."""
    result = number(segment.field(5).text)
    ranges = reference_ranges(segment)
    if result is None or not ranges:
        return None
    value, low, high = float(result[1]), ranges[0].get("low"), ranges[0].get("high")
    if high and value > float(high["value"]):
        return "HH"
    return "LL" if low and value < float(low["value"]) else None
