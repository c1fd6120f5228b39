"""Each rule of US Core broken once in a real resource: the error is there, and names the element.

What is broken is read from the published snapshots: minimum, maximum, fixed values and patterns, required bindings of the elements
that the resource has. Source: Synthea's resources and US Core 6.1.0 of the corpora; https://hl7.org/fhir/R4/elementdefinition.html
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.validation_speed import resources
from fhir_server.model import json_codec
from fhir_server.model.library import Library
from fhir_server.model.packages import read_package
from fhir_server.validation.profiles import ProfileRoom
from fhir_server.validation.structure import validate as structure

GUIDE = "hl7.fhir.us.core-6.1.0.tgz"
FIXED = ("fixed", "pattern")
Json = dict[str, Any]


@functools.cache
def room_of(corpus: Path) -> tuple[Library, ProfileRoom]:
    library = Library(read_package(corpus / "igs" / GUIDE).resources)
    return library, ProfileRoom(library.find)


@functools.cache
def sample(corpus: Path) -> dict[str, list[bytes]]:
    return resources(corpus)


def holder(resource: Json, path: list[str]) -> tuple[Json, str] | None:
    """The first object that has the element of a path, and its expression; None where nothing has it."""
    places = [(resource, str(resource["resourceType"]))]
    for name in path[:-1]:
        inner: list[tuple[Json, str]] = []
        for one, where in places:
            value = one.get(name)
            rows = enumerate(value) if isinstance(value, list) else [(None, value)]
            inner += [(row, f"{where}.{name}" if at is None else f"{where}.{name}[{at}]") for at, row in rows if isinstance(row, dict)]
        places = inner
    return next((place for place in places if path[-1] in place[0]), None)


def wrong_value(value: Any) -> Any:
    """Another value of the same shape."""
    if isinstance(value, list):
        return [wrong_value(value[0])]
    return {"text": "x"} if isinstance(value, dict) else "x"


def rules(element: Json, value: Any) -> Iterator[tuple[str, Any]]:
    """(rule, what breaks it; None to leave the element away) of an element of a snapshot with a value in the resource."""
    base = element.get("base", {})
    if element["min"] > base.get("min", 0):
        yield "cardinality", None
    if element["max"] != "*" and isinstance(value, list) and base.get("max") == "*":
        yield "cardinality", value * (int(element["max"]) + 1)
    if any(key.startswith(FIXED) for key in element):
        yield "pattern", wrong_value(value)
    if element.get("binding", {}).get("strength") == "required" and isinstance(value, str):
        yield "binding", "no-such-code"


def mutations(resource: Json, profile: Json, seen: set[tuple[str, str, bool]]) -> Iterator[tuple[str, str, str, Json]]:
    """(element, rule, expression, the resource then) of each rule that was not broken yet and can be in this resource."""
    for element in profile["snapshot"]["element"]:
        path = element["path"].split(".")[1:]
        if not path or ":" in element["id"] or any("[x]" in part for part in path):
            continue  # slices and choices have tests of their own
        place = holder(resource, path)
        if place is None:
            continue
        for rule, value in rules(element, place[0][path[-1]]):
            key = (element["id"], rule, value is None)
            if key in seen:
                continue
            seen.add(key)
            broken = copy.deepcopy(resource)
            mine, where = holder(broken, path) or place
            if value is None:
                del mine[path[-1]]
            else:
                mine[path[-1]] = value
            yield element["id"], rule, f"{where}.{path[-1]}", broken


def profiled(corpus: Path) -> Iterator[tuple[bytes, Json, str, Json]]:
    """(bytes, content, canonical, profile) of resources without errors that say which profile of the guide they follow."""
    library, room = room_of(corpus)
    for raws in sample(corpus).values():
        for raw in raws[:300]:
            resource = json_codec.loads(raw)
            for canonical in resource.get("meta", {}).get("profile", ()):
                profile = library.find(canonical)
                if profile is not None and not any(issue.severity == "error" for issue in room.validate(resource)):
                    yield raw, resource, canonical, dict(profile)


@functools.cache
def cases(corpus: Path) -> list[tuple[str, str, str, str, Json]]:
    """(profile, element, rule, expression, broken resource) over the types that the guide has profiles of."""
    found: list[tuple[str, str, str, str, Json]] = []
    seen: dict[str, set[tuple[str, str, bool]]] = {}
    for _, resource, canonical, profile in profiled(corpus):
        found += [(canonical, *one) for one in mutations(resource, profile, seen.setdefault(canonical, set()))]
    return found


def test_each_rule_of_us_core_that_is_broken_is_found_where_it_is(corpus: Path) -> None:
    _, room = room_of(corpus)
    missed = []
    for canonical, element, rule, expression, broken in cases(corpus):
        issues = [issue for issue in (*structure(broken), *room.validate(broken)) if issue.severity == "error"]
        named = {"pattern", "fixed", "binding"} if rule == "pattern" else {rule}
        if not any(issue.rule in named and issue.expression[0].startswith(expression) for issue in issues):
            missed.append((canonical, element, rule, expression, [(issue.rule, issue.expression[0]) for issue in issues]))
    assert missed == []
    assert len(cases(corpus)) > 100
