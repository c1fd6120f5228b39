"""From the raw value of an element to index values, by kind of search parameter and FHIR type.

Specification: https://hl7.org/fhir/R4/search.html#table (which types each kind of parameter applies to)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.model.dates import DateError, interval, period_interval, timing_interval
from fhir_server.model.definitions import Definitions
from fhir_server.model.references import Reference, parse_reference, split_canonical
from fhir_server.search.han import has_han, spellings
from fhir_server.search.parameters import NEAR, Parameter
from fhir_server.search.text import MAX_LENGTH, fold
from fhir_server.search.values import FRAGMENT, Key, Range, Text

CURRENCY = "urn:iso:std:iso:4217"
_OPEN = float("inf")


@dataclass(slots=True)
class Collector:
    """Where extractors put what they find, without repetitions."""

    zone: ZoneInfo
    own_bases: tuple[str, ...] = ()
    resource: dict[str, Any] | None = None
    """The whole resource, whose contained ones references may mean."""
    keys: dict[Key, None] = field(default_factory=dict)
    texts: dict[Text, None] = field(default_factory=dict)
    ranges: dict[Range, None] = field(default_factory=dict)


Extractor = Callable[[Any, int, Collector], None]


# --- token
#
# A value without a code is posted with the code '', which no search can ask for: it is there for `system|` and `:missing`.


def token_coding(value: Any, number: int, into: Collector) -> None:
    code = value.get("code")
    if code is not None:
        into.keys[Key(number, value.get("system") or "", code)] = None
    elif value.get("system") or value.get("display"):
        into.keys[Key(number, value.get("system") or "", "")] = None


def token_concept(value: Any, number: int, into: Collector) -> None:
    keys = into.keys
    coded = False
    for coding in value.get("coding") or ():
        if coding is not None and (code := coding.get("code")) is not None:
            keys[Key(number, coding.get("system") or "", code)] = None
            coded = True
        elif coding is not None:
            token_coding(coding, number, into)
    if not coded and value.get("text"):
        keys[Key(number, "", "")] = None


def token_identifier(value: Any, number: int, into: Collector) -> None:
    text = value.get("value")
    if text is not None:
        into.keys[Key(number, value.get("system") or "", text)] = None
    elif value.get("system"):
        into.keys[Key(number, value["system"], "")] = None


def token_typed_identifier(of_type: int) -> Extractor:
    """An Identifier, found by `:of-type` under the number `of_type`, too: there its type takes the place of its system."""

    def extract(value: Any, number: int, into: Collector) -> None:
        text = value.get("value")
        if text is None:
            token_identifier(value, number, into)
            return
        into.keys[Key(number, value.get("system") or "", text)] = None
        for coding in (value.get("type") or {}).get("coding") or ():
            if coding is not None and (code := coding.get("code")) is not None:
                into.keys[Key(of_type, f"{coding.get('system') or ''}|{code}", text)] = None

    return extract


def token_contact(value: Any, number: int, into: Collector) -> None:
    text = value.get("value")
    if text is not None:
        into.keys[Key(number, value.get("system") or "", text)] = None


def token_boolean(value: Any, number: int, into: Collector) -> None:
    into.keys[Key(number, "", "true" if value else "false")] = None


def token_text(value: Any, number: int, into: Collector) -> None:
    into.keys[Key(number, "", str(value))] = None


def token_string(value: Any, number: int, into: Collector) -> None:
    """Case does not count in strings; it does in codes, ids and URIs."""
    into.keys[Key(number, "", str(value).lower())] = None


def token_code(system: str) -> Extractor:
    """A `code` whose value set draws on one code system: that system is implied."""

    def extract(value: Any, number: int, into: Collector) -> None:
        into.keys[Key(number, system, str(value))] = None

    return extract


# --- reference


def reference(identifier: int) -> Extractor:
    """A Reference; a logical one is found by `:identifier` under the number `identifier`."""

    def extract(value: Any, number: int, into: Collector) -> None:
        text = value.get("reference")
        if text is not None:
            found = parse_reference(text)
            if found.within(into.own_bases):
                into.keys[Key(number, found.type, found.id)] = None
            else:
                _elsewhere(found, number, into)
        logical = value.get("identifier")
        if logical is not None and identifier:
            token_identifier(logical, identifier, into)
        if text is None and (logical is not None or value.get("display")):
            into.keys[Key(number, value.get("type") or "", "")] = None

    return extract


def _elsewhere(found: Reference, number: int, into: Collector) -> None:
    """What is no resource of this server is found by its whole text. The id '', which none has, says that there is a value (`:missing`)."""
    if found.form == "fragment":
        contained = (into.resource or {}).get("contained") or ()
        kinds = [inner["resourceType"] for inner in contained if inner and inner.get("id") == found.id]
        into.keys[Key(number, kinds[0] if kinds else "", "")] = None
        if kinds:
            into.keys[Key(number, FRAGMENT, found.id)] = None
        return
    into.keys[Key(number, "", found.text)] = None
    if found.form == "absolute":
        into.keys[Key(number, found.type, "")] = None


def resource_inside(value: Any, number: int, into: Collector) -> None:
    """A whole resource where others have a reference (the Composition of a document)."""
    if isinstance(value, dict) and value.get("resourceType"):
        id = value.get("id") or ""
        for space, text in ((value["resourceType"], id), (value["resourceType"], ""), (FRAGMENT, id)):
            into.keys[Key(number, space, text)] = None


def reference_canonical(value: Any, number: int, into: Collector) -> None:
    url, version, _ = split_canonical(value)
    found = parse_reference(url)
    if found.form == "relative":
        into.keys[Key(number, found.type, found.id)] = None
    elif url:
        into.keys[Key(number, url, version)] = None
        if found.form == "absolute" and found.base in into.own_bases:
            into.keys[Key(number, found.type, found.id)] = None


def uri(value: Any, number: int, into: Collector) -> None:
    into.keys[Key(number, "", value)] = None


def uri_canonical(value: Any, number: int, into: Collector) -> None:
    """A canonical where the parameter is about URIs (`_profile`): with its version, and without."""
    uri(value, number, into)
    if "|" in value:
        uri(value.partition("|")[0], number, into)


# --- string


def string_plain(value: Any, number: int, into: Collector) -> None:
    text = str(value)
    if folded := fold(text):
        into.texts[Text(number, folded, text[:MAX_LENGTH])] = None


def _string_parts(*names: str) -> Extractor:
    def extract(value: Any, number: int, into: Collector) -> None:
        for name in names:
            part = value.get(name)
            if isinstance(part, list):
                for one in part:
                    if one is not None:
                        string_plain(one, number, into)
            elif part is not None:
                string_plain(part, number, into)

    return extract


def string_concept(value: Any, number: int, into: Collector) -> None:
    if value.get("text"):
        string_plain(value["text"], number, into)
    for coding in value.get("coding") or ():
        if coding and coding.get("display"):
            string_plain(coding["display"], number, into)


def spelled(extract: Extractor, spelling: int) -> Extractor:
    """A name, found by its pinyin and initials under the number `spelling`, too; Chinese family and given names also as one word."""

    def extracted(value: Any, number: int, into: Collector) -> None:
        extract(value, number, into)
        names = [value] if isinstance(value, str) else [value.get("text"), value.get("family"), *(value.get("given") or ())]
        if not isinstance(value, str) and len(names) > 2 and all(one and has_han(one) for one in names[1:]):
            whole = "".join(names[1:])
            string_plain(whole, number, into)
            names.append(whole)
        for name in names:
            if name and has_han(name):
                for form in spellings(name):
                    into.texts[Text(spelling, form, form)] = None

    return extracted


# --- date


def date(value: Any, number: int, into: Collector) -> None:
    try:
        low, high = interval(value, into.zone)
    except (DateError, TypeError):
        return
    into.ranges[Range(number, "", "", low, high)] = None


def date_period(value: Any, number: int, into: Collector) -> None:
    try:
        low, high = period_interval(value, into.zone)
    except (DateError, TypeError):
        return
    if value.get("start") or value.get("end"):
        into.ranges[Range(number, "", "", low, high)] = None


def date_timing(value: Any, number: int, into: Collector) -> None:
    try:
        found = timing_interval(value, into.zone)
    except (DateError, TypeError):
        return
    if found:
        into.ranges[Range(number, "", "", *found)] = None


# --- number and quantity


def _float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return float(value)


def number(value: Any, parameter: int, into: Collector) -> None:
    found = _float(value)
    if found is not None:
        into.ranges[Range(parameter, "", "", found, found)] = None


def number_range(value: Any, parameter: int, into: Collector) -> None:
    low, high = (_float((value.get(side) or {}).get("value")) for side in ("low", "high"))
    if low is not None or high is not None:
        into.ranges[Range(parameter, "", "", -_OPEN if low is None else low, _OPEN if high is None else high)] = None


def quantity(value: Any, parameter: int, into: Collector) -> None:
    found = _float(value.get("value"))
    if found is None:
        return
    comparator = value.get("comparator")
    low = -_OPEN if comparator in ("<", "<=") else found
    high = _OPEN if comparator in (">", ">=") else found
    _in_units(value, parameter, low, high, into)


def _in_units(value: Any, parameter: int, low: float, high: float, into: Collector) -> None:
    code, unit = value.get("code"), value.get("unit")
    if code is not None:
        into.ranges[Range(parameter, value.get("system") or "", code, low, high)] = None
    if unit is not None and unit != code:
        into.ranges[Range(parameter, "", unit, low, high)] = None
    elif code is None:
        into.ranges[Range(parameter, "", "", low, high)] = None


def quantity_money(value: Any, parameter: int, into: Collector) -> None:
    found = _float(value.get("value"))
    if found is not None:
        currency = value.get("currency")
        into.ranges[Range(parameter, CURRENCY if currency else "", currency or "", found, found)] = None


def quantity_range(value: Any, parameter: int, into: Collector) -> None:
    sides = [value.get(side) or {} for side in ("low", "high")]
    low, high = (_float(side.get("value")) for side in sides)
    if low is not None or high is not None:
        named = sides[0] if sides[0].get("code") or sides[0].get("unit") else sides[1]
        _in_units(named, parameter, -_OPEN if low is None else low, _OPEN if high is None else high, into)


def quantity_sampled(value: Any, parameter: int, into: Collector) -> None:
    origin, low, high = value.get("origin") or {}, _float(value.get("lowerLimit")), _float(value.get("upperLimit"))
    if low is not None and high is not None:
        _in_units(origin, parameter, low, high, into)


def position(longitudes: int) -> Extractor:
    """A Location's position: its latitude under the parameter's number, its longitude under `longitudes`."""

    def extract(value: Any, parameter: int, into: Collector) -> None:
        latitude, longitude = _float(value.get("latitude")), _float(value.get("longitude"))
        if latitude is not None and longitude is not None:
            into.ranges[Range(parameter, "", "", latitude, latitude)] = None
            into.ranges[Range(longitudes, "", "", longitude, longitude)] = None

    return extract


_NAME = _string_parts("text", "family", "given", "prefix", "suffix")
_ADDRESS = _string_parts("text", "line", "city", "district", "state", "postalCode", "country")
_TEXTS = ("string", "code", "id", "markdown", "uri", "url", "canonical", "oid", "uuid")
_QUANTITIES = ("Quantity", "Age", "Count", "Distance", "Duration", "SimpleQuantity", "MoneyQuantity")
_DATES: dict[str, Extractor] = {
    **dict.fromkeys(("date", "dateTime", "instant"), date),
    "Period": date_period,
    "Timing": date_timing,
}
BY_KIND: dict[str, dict[str, Extractor]] = {
    "token": {
        "Coding": token_coding,
        "CodeableConcept": token_concept,
        "Identifier": token_identifier,
        "ContactPoint": token_contact,
        "boolean": token_boolean,
        **dict.fromkeys((*_TEXTS, "integer", "positiveInt", "unsignedInt", "base64Binary"), token_text),
        "string": token_string,
    },
    "reference": {"canonical": reference_canonical, "uri": uri, "url": uri, "oid": uri, "uuid": uri},
    "string": {
        **dict.fromkeys(_TEXTS, string_plain),
        "HumanName": _NAME,
        "Address": _ADDRESS,
        "CodeableConcept": string_concept,
        "Annotation": _string_parts("text"),
        "ContactPoint": _string_parts("value"),
    },
    "date": _DATES,
    "number": {
        **dict.fromkeys(("integer", "positiveInt", "unsignedInt", "decimal"), number),
        "Range": number_range,
        **dict.fromkeys(_QUANTITIES, lambda value, parameter, into: number(value.get("value"), parameter, into)),
    },
    "quantity": {
        **dict.fromkeys(_QUANTITIES, quantity),
        "Money": quantity_money,
        "Range": quantity_range,
        "SampledData": quantity_sampled,
        "decimal": number,
        "integer": number,
    },
    "uri": {**dict.fromkeys(("uri", "url", "oid", "uuid"), uri), "canonical": uri_canonical},
    "special": {},
}
"""Kind of parameter → FHIR type of the value → extractor. References get theirs from `reference`."""


def extractor_of(known: Definitions, parameter: Parameter, kind: str, expression: str) -> Extractor | None:
    """What takes values of the FHIR type `kind`, found by `expression`, into the index of a parameter; None: nothing does."""
    if parameter.type == "reference" and kind == "Reference":
        return reference(parameter.identifier)
    if parameter.type == "reference" and kind == "Resource":
        return resource_inside
    if kind == "Extension":
        return extension_value(known, parameter, expression)
    if parameter.code == NEAR:
        return position(parameter.identifier)
    if parameter.type == "token" and kind == "Identifier" and parameter.identifier:
        return token_typed_identifier(parameter.identifier)
    if parameter.type == "token" and kind == "code":
        system = implied_system(known, expression, parameter.resource_type)
        if system:
            return token_code(system)
    found = BY_KIND.get(parameter.type, {}).get(kind)
    if found is not None and parameter.type == "string" and parameter.identifier and kind in ("HumanName", "string"):
        return spelled(found, parameter.identifier)
    return found


def extension_value(known: Definitions, parameter: Parameter, expression: str) -> Extractor:
    """An expression that ends at an extension (Patient.mothersMaidenName) means the extension's value, whatever its type."""
    extractors: dict[str, Extractor | None] = {}

    def extract(value: Any, number: int, into: Collector) -> None:
        for member, inner in value.items():
            if not member.startswith("value"):
                continue
            if member not in extractors:
                kind = member.removeprefix("value")
                kind = kind if kind in known.types else kind[:1].lower() + kind[1:]
                extractors[member] = extractor_of(known, parameter, kind, expression)
            if (found := extractors[member]) is not None:
                found(inner, number, into)

    return extract


def implied_system(known: Definitions, expression: str, resource_type: str) -> str | None:
    """The code system of a `code` element, where its required value set draws on one only."""
    path = expression.split("|", maxsplit=1)[0].strip()
    parts = path.split(".")
    if len(parts) < 2 or parts[0] != resource_type:
        return None
    current = known.types[resource_type]
    element = None
    for name in parts[1:]:
        found = current.by_json.get(name)
        if found is None:
            return None
        element, type_name = found
        if type_name in known.types:
            current = known.types[type_name]
    if element is None or element.binding is None or element.binding.strength != "required":
        return None
    codings = known.codings(element.binding.value_set)
    systems = {system for system, _ in codings or ()}
    return systems.pop() if len(systems) == 1 else None
