"""OBX values, reference ranges and flags.

Specification: HL7 v2.5.1 chapter 7.4.2; v2-to-FHIR guide, segment OBX to Observation
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from integrations.hl7v2 import codes
from integrations.hl7v2.datatypes import Element, Source, concept, decimal, number, present, unit
from integrations.hl7v2.message import Segment
from integrations.hl7v2.times import fhir_time

_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:-{1,2}|~|—|–|to|至)\s*(-?\d+(?:\.\d+)?)\Z", re.ASCII | re.I)
_EDGE = re.compile(r"(<=|>=|≤|≥|<|>)\s*(-?\d+(?:\.\d+)?)\Z")
_SEXES = re.compile(r"(男|女)(?:性)?\s*[:：]?\s*([^;；,，男女]+)")


def absent(reason: str) -> Element:
    """A dataAbsentReason."""
    return {"dataAbsentReason": {"coding": [{"system": _ABSENT, "code": reason}]}}


def value(segment: Segment, source: Source, warnings: list[str]) -> Element:
    """value[x] (or dataAbsentReason) of an OBX after OBX-2."""
    kind = segment.value(2).strip().upper()
    repeats = segment.fields(5)
    if not repeats or repeats[0].deletes:
        return absent("unknown")
    first = repeats[0]
    if kind == "NM":
        return _numeric(first.text, segment, warnings)
    if kind == "SN":
        return _structured([first.part(k) for k in (1, 2, 3, 4)], segment, warnings)
    if kind in ("CE", "CWE", "CF", "CNE", "IS", "ID"):
        found = concept(first, source, "lis")
        return {"valueCodeableConcept": found} if found else absent("unknown")
    if kind in ("DT", "TS", "DTM"):
        when = fhir_time(first.part(1), source.zone)
        if when is None:
            warnings.append(f"OBX-5: '{first.text}' is no date; it is kept as text")
            return {"valueString": first.text}
        return {"valueDateTime": when}
    if kind == "TM":
        return _time(first.text)
    text = "\n".join(one.text for one in repeats)
    return {"valueString": text} if text.strip() else absent("unknown")


def _time(text: str) -> Element:
    found = re.match(r"(\d\d)(\d\d)(\d\d)?", text, re.ASCII)
    if found and int(found[1]) < 24 and int(found[2]) < 60:
        return {"valueTime": f"{found[1]}:{found[2]}:{found[3] or '00'}"}
    return {"valueString": text}


def _quantity(comparator: str, digits: str, segment: Segment) -> Element:
    return present(value=decimal(digits), comparator=comparator) | unit(segment.field(6))


def _numeric(text: str, segment: Segment, warnings: list[str]) -> Element:
    found = number(text)
    if found is None:
        warnings.append("OBX-5: the value of an NM is no number; it is kept as text")
        return {"valueString": text}
    return {"valueQuantity": _quantity(*found, segment)}


def _structured(parts: list[str], segment: Segment, warnings: list[str]) -> Element:
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
    sign = {"<": "<", ">": ">", "<=": "<=", ">=": ">="}.get(comparator, one[0])
    return {"valueQuantity": _quantity(sign, one[1], segment)}


def _bounds(text: str, measure: Element) -> Element:
    """Low and high of a written range, as far as it can be read."""
    text = unicodedata.normalize("NFKC", text).strip()
    if found := _RANGE.match(text):
        low, high = number(found[1]), number(found[2])
        if low and high:
            return {"low": {"value": decimal(low[1]), **measure}, "high": {"value": decimal(high[1]), **measure}}
    if found := _EDGE.match(text):
        edge = number(found[2])
        if edge:
            side = "high" if found[1] in ("<", "<=", "≤") else "low"
            return {side: {"value": decimal(edge[1]), **measure}}
    return {}


def reference_ranges(segment: Segment) -> list[Element]:
    """OBX-7: its text always, low and high where they can be read; two entries where it is split by sex."""
    text = segment.field(7).text.strip()
    if not text:
        return []
    measure = unit(segment.field(6))
    sexes = _SEXES.findall(text)
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
