"""Search by looking at every resource: written from the specification over plain JSON, sharing nothing with the server.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import calendar
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

Resource = dict[str, Any]
World = dict[str, Resource]
"""'Type/id' -> resource"""
ENDLESS = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
TICK = timedelta(milliseconds=1)


def span(text: str) -> tuple[datetime, datetime]:
    """First and last instant of a date or dateTime; one without a zone is UTC."""
    if "T" in text:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        length = (
            timedelta(milliseconds=1)
            if "." in text
            else timedelta(seconds=1)
            if text.count(":") > 1 + ("+" in text)
            else timedelta(minutes=1)
        )
        return moment, moment + length - TICK
    year, month, day = (*map(int, text.split("-")), 0, 0)[:3]
    first = datetime(year, month or 1, day or 1, tzinfo=UTC)
    if day:
        return first, first + timedelta(days=1) - TICK
    if month:
        return first, first + timedelta(days=calendar.monthrange(year, month)[1]) - TICK
    return first, datetime(year + 1, 1, 1, tzinfo=UTC) - TICK


def dates(resource: Resource, *names: str) -> list[tuple[datetime, datetime]]:
    found = []
    for name in names:
        value = resource.get(name)
        if isinstance(value, str):
            found.append(span(value))
        elif value:
            low = span(value["start"])[0] if "start" in value else ENDLESS[1]
            high = span(value["end"])[1] if "end" in value else ENDLESS[0]
            found.append((low, high))
    return found


def date_test(prefix: str, value: str) -> Callable[[tuple[datetime, datetime]], bool]:
    low, high = span(value)

    def contained(at: tuple[datetime, datetime]) -> bool:
        return low <= at[0] and at[1] <= high

    return {
        "eq": contained,
        "ne": lambda at: not contained(at),
        "gt": lambda at: at[1] > high,
        "lt": lambda at: at[0] < low,
        "ge": lambda at: at[1] > high or contained(at),
        "le": lambda at: at[0] < low or contained(at),
        "sa": lambda at: at[0] > high,
        "eb": lambda at: at[1] < low,
    }[prefix]


def number_test(prefix: str, value: str) -> Callable[[Decimal], bool]:
    number = Decimal(value)
    half = Decimal(1).scaleb(int(number.as_tuple().exponent)) / 2

    def equal(one: Decimal) -> bool:
        return number - half <= one < number + half

    return {
        "eq": equal,
        "ne": lambda one: not equal(one),
        "gt": lambda one: one > number,
        "lt": lambda one: one < number,
        "ge": lambda one: one >= number,
        "le": lambda one: one <= number,
    }[prefix]


def folded(text: str) -> str:
    plain = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return plain.casefold()


PINYIN = {"张": "zhang", "章": "zhang", "伟": "wei"}


def spelled(name: str) -> list[str]:
    """A Chinese name as pinyin and as initials, each in one word."""
    if not set(name) & set(PINYIN):
        return []
    readings = [PINYIN[one] for one in name]
    return ["".join(readings), "".join(reading[0] for reading in readings)]


def codings(resource: Resource, name: str) -> list[tuple[str, str]]:
    """(system, code) of a CodeableConcept, a list of them, a Coding, an Identifier list, or a code."""
    value = resource.get(name)
    if value is None:
        return []
    found = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str):
            found.append(("*", one))
        elif "value" in one:
            found.append((one.get("system", ""), one["value"]))
        elif "coding" in one or "text" in one:
            found += [(coding.get("system", ""), coding["code"]) for coding in one.get("coding", [])]
        else:
            found.append((one.get("system", ""), one["code"]))
    return found


def token_test(value: str) -> Callable[[tuple[str, str]], bool]:
    if "|" not in value:
        return lambda at: at[1] == value
    system, code = value.split("|")
    if not code:
        return lambda at: at[0] == system
    return lambda at: at[1] == code and at[0] == system


def names(resource: Resource, part: str) -> list[str]:
    found: list[str] = []
    for name in resource.get("name", []):
        if part in ("family", "name"):
            found += [name["family"]] if "family" in name else []
        if part in ("given", "name"):
            found += name.get("given", [])
        parts = [name.get("family", ""), *name.get("given", [])]
        if part == "name" and len(parts) > 1 and all(set(one) & set(PINYIN) for one in parts):
            found.append("".join(parts))
    return found


def referred(resource: Resource, name: str) -> str:
    reference: str = (resource.get(name) or {}).get("reference", "")
    return reference


TOKENS = {
    ("Patient", "gender"): "gender",
    ("Patient", "identifier"): "identifier",
    ("Observation", "code"): "code",
    ("Observation", "category"): "category",
    ("Observation", "status"): "status",
    ("Encounter", "class"): "class",
    ("Encounter", "status"): "status",
    ("Condition", "code"): "code",
}
DATES = {
    ("Patient", "birthdate"): ("birthDate",),
    ("Observation", "date"): ("effectiveDateTime", "effectivePeriod"),
    ("Encounter", "date"): ("period",),
    ("Condition", "onset-date"): ("onsetDateTime", "onsetPeriod"),
}
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")


def prefixed(value: str) -> tuple[str, str]:
    return (value[:2], value[2:]) if value[:2] in PREFIXES else ("eq", value)


def matches(world: World, resource: Resource, name: str, value: str) -> bool:
    """Whether a resource meets one parameter; the commas of the value are OR."""
    type = resource["resourceType"]
    if name.startswith("_has:"):
        _, other, reference, rest = name.split(":", 3)
        field = "subject" if reference in ("subject", "patient") else reference
        place = f"{type}/{resource['id']}"
        return any(
            one["resourceType"] == other and referred(one, field) == place and matches(world, one, rest, value) for one in world.values()
        )
    first, _, rest = name.partition(".")
    base, _, modifier = first.partition(":")
    if rest:
        target = world.get(referred(resource, "subject" if base in ("subject", "patient") else base))
        return target is not None and modifier in ("", target["resourceType"]) and matches(world, target, rest, value)
    values = value.split(",")
    if base == "_id":
        return resource["id"] in values
    if base in ("subject", "patient"):
        place = referred(resource, "subject")
        if modifier == "missing":
            return (not place) == (value == "true")
        return any(place in (one, f"Patient/{one}") for one in values)
    if (type, base) in TOKENS:
        present = codings(resource, TOKENS[type, base])
        if modifier == "missing":  # about the element: a concept with a text only is a value
            return (not resource.get(TOKENS[type, base])) == (value == "true")
        hit = any(token_test(one)(at) for one in values for at in present)
        return not hit if modifier == "not" else hit
    if (type, base) in DATES:
        spans = dates(resource, *DATES[type, base])
        if modifier == "missing":
            return (not spans) == (value == "true")
        return any(date_test(*prefixed(one))(at) for one in values for at in spans)
    if base in ("value-quantity", "component-value-quantity"):
        holders = [resource] if base == "value-quantity" else resource.get("component", [])
        return any(quantity_meets(holder, one) for one in values for holder in holders)
    if base in COMPOSITES:
        return any(pair_meets(element, base, one) for element in elements(resource, base) for one in values)
    texts = names(resource, base)
    if modifier == "missing":
        return (not texts) == (value == "true")
    if modifier == "exact":
        return any(text == one for text in texts for one in values)
    readings = [reading for text in texts for reading in spelled(text)]
    if modifier == "contains":
        return any(folded(one) in text for text in [*map(folded, texts), *readings] for one in values)
    return any(text.startswith(folded(one)) for text in [*map(folded, texts), *readings] for one in values)


UCUM = "http://unitsofmeasure.org"
GRAMS = {"mg": Decimal("0.001"), "g": Decimal(1), "kg": Decimal(1000)}
"""UCUM's units of mass that occur, in grams; mm[Hg] compares with itself only here."""


def quantity_meets(holder: Resource, value: str) -> bool:
    """Whether the valueQuantity of a resource or component meets number, number|system|code or number||unit."""
    found = holder.get("valueQuantity")
    if not found:
        return False
    text, *unit = value.split("|")
    factor = Decimal(1)
    if unit and unit[0]:
        if found.get("system") != unit[0]:
            return False
        if unit[0] == UCUM and found["code"] in GRAMS and unit[1] in GRAMS:
            factor = GRAMS[found["code"]] / GRAMS[unit[1]]
        elif found.get("code") != unit[1]:
            return False
    if unit and not unit[0] and unit[1] not in (found.get("code"), found.get("unit")):
        return False
    return number_test(*prefixed(text))(Decimal(str(found["value"])) * factor)


COMPOSITES = ("code-value-quantity", "component-code-value-quantity", "combo-code-value-quantity", "component-code-value-concept")


def elements(resource: Resource, composite: str) -> list[Resource]:
    """Where the two values of a composite must stand together."""
    whole = [] if composite.startswith("component") else [resource]
    return whole + ([] if composite.startswith("code") else resource.get("component", []))


def pair_meets(element: Resource, composite: str, value: str) -> bool:
    code, other = value.split("$")
    if not any(token_test(code)(at) for at in codings(element, "code")):
        return False
    if composite.endswith("quantity"):
        return quantity_meets(element, other)
    return any(token_test(other)(at) for at in codings(element, "valueCodeableConcept"))


def search(world: World, type: str, query: list[tuple[str, str]]) -> list[str]:
    """The ids of a type that meet all parameters, sorted."""
    return sorted(
        one["id"] for one in world.values() if one["resourceType"] == type and all(matches(world, one, *parameter) for parameter in query)
    )
