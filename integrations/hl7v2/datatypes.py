"""HL7 v2 data types as FHIR elements.

Specification: HL7 v2.5.1 chapter 2A; v2-to-FHIR guide, datatype maps (https://build.fhir.org/ig/HL7/v2-to-fhir/datatype_maps.html)
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fhir_server.model.json_codec import Number
from integrations.hl7v2 import codes
from integrations.hl7v2.message import Field
from integrations.hl7v2.times import fhir_date, fhir_instant

Element = dict[str, Any]
_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_UCUM = "http://unitsofmeasure.org"
_WHO_ICD10 = re.compile(r"[A-Z]\d\d(?:\.\d{1,2})?\Z", re.ASCII)
_CHINESE_ICD10 = "urn:oid:2.16.156.10011.2.3.3.11"
_OID = re.compile(r"[0-2](?:\.\d+)+\Z", re.ASCII)
_CJK = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")
_REPEATED = 100
"""Signs of texts whose reading is kept, because they come again; longer ones would fill the memory."""
_LONGEST = 40
"""Signs of a number; a longer one is no measurement, and kept as text."""
_PLAIN = re.compile(r"(?:0|[1-9]\d*)(?:\.\d+)?\Z", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)\Z", re.ASCII)


def present(**elements: Any) -> Element:
    """The elements that have a value."""
    return {name: value for name, value in elements.items() if value or (value is not None and value not in ("", [], {}))}


class Source:
    """Who sends: name for URIs, zone of times without one."""

    def __init__(self, name: str, zone: ZoneInfo) -> None:
        self.name, self.zone = quote(name or "unknown", safe="-._~"), zone

    def local_system(self, table: str) -> str:
        """The system of the sender's own codes."""
        return (_local_system if len(self.name) <= _REPEATED else _local_system.__wrapped__)(self.name, table)


@lru_cache(maxsize=1024)
def _local_system(name: str, table: str) -> str:
    return f"urn:source:{name}:{quote(table.lower() or 'local', safe='-._~')}"


def authority_system(namespace: str, universal: str, kind: str, source: Source) -> str:
    """The system of identifiers that an assigning authority gives: its OID or URL, else a URN of its name, else of the sender's."""
    if kind.upper() == "ISO" and _OID.match(universal):
        return f"urn:oid:{universal}"
    if universal.startswith(("http://", "https://", "urn:")):
        return universal
    return f"urn:id:{quote(namespace or source.name, safe='-._~')}"


_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def resident_id(text: str) -> str | None:
    """A Chinese resident identity number with a right check character and a day that exists (GB 11643-1999), or None."""
    text = text.strip().upper()
    if not re.fullmatch(r"\d{17}[\dX]", text, re.ASCII) or fhir_date(text[6:14]) is None or text[6:10] < "1900":
        return None
    return text if "10X98765432"[sum(int(c) * w for c, w in zip(text, _WEIGHTS, strict=False)) % 11] == text[17] else None


def identifier(field: Field, source: Source, warnings: list[str], default_type: str = "") -> Element | None:
    """CX → Identifier. A resident identity number gets the national system, a wrong one none (and a warning)."""
    value = field.part(1)
    if not value or field.deletes:
        return None
    kind = field.part(5) or default_type
    concept = {"coding": [{"system": _TYPES, "code": kind}]} if re.fullmatch(r"[A-Z]{1,5}", kind, re.ASCII) else None
    if kind == "NI":
        good = resident_id(value)
        if good is None:
            warnings.append("PID-3: the resident identity number has a wrong check character or date; it is kept without a system")
            return present(type=concept, value=value)
        return present(use="official", type=concept, system=codes.tables()["identifier_system"]["NI"], value=good)
    return present(type=concept, system=authority_system(*field.subparts(4), source), value=value)


def name(field: Field) -> Element | None:
    """XPN → HumanName; a Chinese name gets its text without a blank, one without parts is kept whole."""
    family, given, middle, suffix, prefix = (field.part(k) for k in (1, 2, 3, 4, 5))
    if not family and not given:
        return None
    if _CJK.search(family + given):
        text = family + given + middle
    else:
        text = " ".join(part for part in (prefix, given, middle, family, suffix) if part)
    return present(
        use=codes.code("name_use", field.part(7)),
        text=text,
        family=family,
        given=[part for part in (given, *middle.split()) if part],
        prefix=[prefix] if prefix else None,
        suffix=[suffix] if suffix else None,
    )


def address(field: Field) -> Element | None:
    """XAD → Address."""
    lines = [part for part in (field.part(1), field.part(2)) if part]
    parts = {
        "city": field.part(3),
        "state": field.part(4),
        "postalCode": field.part(5),
        "country": field.part(6),
        "district": field.part(9),
    }
    if not lines and not any(parts.values()):
        return None
    use, kind = codes.code("address_use", field.part(7)) or [None, None]
    return present(use=use, type=kind, line=lines, **parts)


def telecom(field: Field, default_use: str | None = None) -> Element | None:
    """XTN → ContactPoint: the written number, or the one put together from its parts; a Chinese mobile number is known by its form."""
    email, country, area, local, extension = (field.part(k) for k in (4, 5, 6, 7, 8))
    value = field.part(12) or field.part(1)
    if not value and local:
        value = " ".join(
            part for part in (f"+{country.lstrip('+')}" if country else "", area, local, f"ext. {extension}" if extension else "") if part
        )
    use = codes.code("telecom_use", field.part(2)) or default_use
    system = codes.code("telecom_system", field.part(3))
    if field.part(3) == "CP":
        use = "mobile"
    if email and not value:
        return present(system="email", value=email, use=use)
    if not value:
        return None
    if "@" in value:
        system = "email"
    if re.fullmatch(r"(?:\+?86)?1\d{10}", value.replace("-", "").replace(" ", ""), re.ASCII):
        use = "mobile"
    return present(system=system or "phone", value=value, use=use)


def coding_system(name: str, code: str, source: Source, table: str) -> str:
    """The URI of a coding system's name (table 0396); ICD-10 codes that WHO does not have are China's; unknown names are the sender's."""
    if not name:
        return source.local_system(table)
    known = codes.code("code_system", name.strip())
    if known and known.endswith("/icd-10") and not _WHO_ICD10.match(code):
        return _CHINESE_ICD10
    if known:
        return known
    found = re.fullmatch(r"HL7(\d{4})", name, re.ASCII)
    if found:
        return f"http://terminology.hl7.org/CodeSystem/v2-{found[1]}"
    return source.local_system(table)


def concept(field: Field, source: Source, table: str = "local") -> Element | None:
    """CWE, CE, IS, ST → CodeableConcept with both triplets."""
    codings = []
    for at in (1, 4):
        value = field.part(at)
        if value:
            coding = {"system": coding_system(field.part(at + 2), value, source, table), "code": value.strip()}
            if display := field.part(at + 1):
                coding["display"] = display
            codings.append(coding)
    text = field.part(9) or field.part(2) or field.part(5)
    if not codings:
        return {"text": text} if text else None
    return {"coding": codings, "text": text or field.part(1)}


def unit(field: Field) -> Element:
    """OBX-6 → unit, system and code of a Quantity: UCUM where it is known, the text always. Not to be changed."""
    work = _unit if len(field.raw) <= _REPEATED else _unit.__wrapped__
    return work(field.part(1), field.part(2), field.part(3))


@lru_cache(maxsize=1024)
def _unit(code: str, text: str, system: str) -> Element:
    shown = text or code
    if not shown:
        return {}
    ucum = code if system.upper() == "UCUM" else codes.code("unit", code) or codes.code("unit", shown)
    return present(unit=shown, system=_UCUM if ucum else None, code=ucum)


_COMPARATORS = (("<=", "<="), (">=", ">="), ("≤", "<="), ("≥", ">="), ("＜", "<"), ("＞", ">"), ("<", "<"), (">", ">"))


def number(text: str) -> tuple[str, str] | None:
    """(comparator, digits as sent) of '7.80', '<0.5', '≤ 3' or full-width digits; None for what is no number."""
    if len(text) > _LONGEST:
        return None
    if _PLAIN.match(text):
        return "", text
    text = unicodedata.normalize("NFKC", text.strip())
    comparator = ""
    for sign, meaning in _COMPARATORS:
        if text.startswith(sign):
            comparator, text = meaning, text[len(sign) :].strip()
            break
    if not _NUMBER.match(text):
        return None
    digits = text.lstrip("+")
    if digits.startswith((".", "-.")):
        digits = digits.replace(".", "0.", 1)
    whole, dot, fraction = digits.lstrip("-").partition(".")
    return comparator, ("-" if digits.startswith("-") else "") + (whole.lstrip("0") or "0") + dot + fraction


def decimal(digits: str) -> Any:
    """A JSON number that keeps these digits."""
    return Number(digits)


def instant(field: Field, source: Source) -> str | None:
    return fhir_instant(field.part(1), source.zone)
