"""Each slice and choice of US Core broken once in a real resource: the error is there, and names the element.

The members of a slice are told from the published snapshot alone: by fixed values and patterns at the discriminators, extensions by
their url, choices by their type. Source: Synthea's resources and US Core 6.1.0; https://hl7.org/fhir/R4/profiling.html#slicing
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fhir_server.model import json_codec
from fhir_server.validation.structure import validate as structure
from tests.validation.test_profile_mutations import Json, profiled, room_of, wrong_value

Break = tuple[str, frozenset[str], str, Json]
"""Element of the snapshot, rules of which one must be named, expression, the resource then."""


def child(profile: Json, slice_id: str, path: str) -> Json | None:
    """The element of a snapshot below a slice at a discriminator's path."""
    return next((one for one in profile["snapshot"]["element"] if one["id"] == f"{slice_id}.{path}"), None)


def valued(element: Json | None) -> Any:
    """The fixed value or pattern of an element."""
    return next((value for key, value in (element or {}).items() if key.startswith(("fixed", "pattern"))), None)


def holds(value: Any, wanted: Any) -> bool:
    """At least what is wanted."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(holds(value.get(key), inner) for key, inner in wanted.items())
    if isinstance(wanted, list):
        return isinstance(value, list) and all(any(holds(one, inner) for one in value) for inner in wanted)
    return bool(value == wanted)


def at(value: Any, path: str) -> list[Any]:
    """What stands at a path of plain names."""
    found = [value]
    for name in path.split("."):
        inner = [one.get(name) for one in found if isinstance(one, dict)]
        found = [row for one in inner if one is not None for row in (one if isinstance(one, list) else [one])]
    return found


def members_of(profile: Json, whole: Json, slice: Json) -> Callable[[Any], bool] | None:
    """Whether a value belongs to a slice; None where only more than its own snapshot tells that."""
    tests: list[Callable[[Any], bool]] = []
    for row in whole.get("slicing", {}).get("discriminator", ()):
        path, kind = row["path"], row["type"]
        profiles = [url for one in slice.get("type", ()) for url in one.get("profile", ())]
        if path == "url" and profiles:
            tests.append(lambda value, url=profiles[0]: isinstance(value, dict) and value.get("url") == url)
            continue
        wanted = valued(slice if path == "$this" else child(profile, slice["id"], path))
        if kind not in ("value", "pattern") or wanted is None:
            return None
        tests.append(
            lambda value, path=path, wanted=wanted: any(holds(one, wanted) for one in ([value] if path == "$this" else at(value, path)))
        )
    return (lambda value: all(test(value) for test in tests)) if tests else None


def broken_slices(resource: Json, profile: Json) -> Iterator[Break]:
    """Of slices of elements right below the resource: too few, too many, and what their own elements demand."""
    elements = profile["snapshot"]["element"]
    wholes = {one["id"]: one for one in elements if "slicing" in one and one["path"].count(".") == 1 and "[x]" not in one["id"]}
    for slice in elements:
        whole = wholes.get(slice["id"].partition(":")[0])
        if whole is None or slice["id"].count(":") != 1 or "sliceName" not in slice or slice["path"] != whole["path"]:
            continue
        name = slice["path"].partition(".")[2]
        values = resource.get(name)
        member = members_of(profile, whole, slice)
        if member is None or not isinstance(values, list):
            continue
        mine = [index for index, value in enumerate(values) if member(value)]
        if not mine:
            continue
        where = f"{resource['resourceType']}.{name}"
        if slice["min"]:
            rest = [value for value in values if not member(value)]
            left = {key: value for key, value in resource.items() if key != name} | ({name: rest} if rest else {})
            yield slice["id"], frozenset({"cardinality"}), where, left
        if slice["max"] != "*":
            often = [values[mine[0]]] * (int(slice["max"]) + 1 - len(mine))
            yield slice["id"], frozenset({"cardinality"}), where, resource | {name: values + often}
        for element in elements:
            prefix = slice["id"] + "."
            inner = element["id"].removeprefix(prefix)
            value = values[mine[0]]
            if not element["id"].startswith(prefix) or "." in inner or ":" in inner or not isinstance(value, dict) or inner not in value:
                continue
            if any(row["path"].partition(".")[0] == inner for row in whole["slicing"]["discriminator"]):
                continue  # without it, it is no member any more
            place = f"{where}[{mine[0]}].{inner}"
            if element["min"] > element.get("base", {}).get("min", 0):
                yield element["id"], frozenset({"cardinality"}), place, changed(resource, name, mine[0], inner, None)
            if valued(element) is not None:
                yield (
                    element["id"],
                    frozenset({"pattern", "fixed", "binding"}),
                    place,
                    changed(resource, name, mine[0], inner, wrong_value(value[inner])),
                )


def changed(resource: Json, name: str, index: int, inner: str, value: Any) -> Json:
    """A resource with another value of an element of one of its elements; None leaves it away."""
    made = copy.deepcopy(resource)
    if value is None:
        del made[name][index][inner]
    else:
        made[name][index][inner] = value
    return made


def broken_choices(resource: Json, profile: Json) -> Iterator[Break]:
    """Of choices right below the resource: another type than those that are left, and what the slice of a type demands."""
    type_name = resource["resourceType"]
    for element in profile["snapshot"]["element"]:
        if element["path"].count(".") != 1 or not element["path"].endswith("[x]") or "sliceName" in element:
            continue
        name = element["path"].partition(".")[2].removesuffix("[x]")
        codes = {row["code"] for row in element["type"]}
        key = next(
            (key for key in resource if key.startswith(name) and key[len(name) :] in {code[:1].upper() + code[1:] for code in codes}), None
        )
        if key is None:
            continue
        rest = {other: value for other, value in resource.items() if other != key}
        strange = next(
            (
                pair
                for pair in (("Boolean", True), ("Period", {"start": "2020"}), ("String", "x"))
                if pair[0][:1].lower() + pair[0][1:] not in codes and pair[0] not in codes
            ),
            None,
        )
        if strange is not None:
            yield (
                element["id"],
                frozenset({"type", "element", "slicing-closed"}),
                f"{type_name}.{name}",
                rest | {name + strange[0]: strange[1]},
            )
        if element["min"]:
            yield element["id"], frozenset({"cardinality"}), f"{type_name}.{name}", rest
        for inner in profile["snapshot"]["element"]:
            prefix = f"{element['id']}:{key}."
            part = inner["id"].removeprefix(prefix)
            value = resource[key]
            if not inner["id"].startswith(prefix) or "." in part or ":" in part or not isinstance(value, dict) or part not in value:
                continue
            place = f"{type_name}.{name}.{part}"
            if inner["min"] > inner.get("base", {}).get("min", 0):
                yield (
                    inner["id"],
                    frozenset({"cardinality"}),
                    place,
                    resource | {key: {one: two for one, two in value.items() if one != part}},
                )
            if valued(inner) is not None:
                yield inner["id"], frozenset({"pattern", "fixed", "binding"}), place, resource | {key: value | {part: "x"}}


@functools.cache
def cases(corpus: Path) -> list[tuple[str, Break]]:
    found: dict[tuple[str, str, frozenset[str], int], tuple[str, Break]] = {}
    for raw, resource, canonical, profile in profiled(corpus):
        for one in (*broken_slices(resource, profile), *broken_choices(resource, profile)):
            grown = len(json_codec.dumps(one[3])) > len(raw)
            found.setdefault((canonical, one[0], one[1], grown), (canonical, one))
    return list(found.values())


def test_each_slice_and_choice_of_us_core_that_is_broken_is_found_where_it_is(corpus: Path) -> None:
    _, room = room_of(corpus)
    missed = []
    for canonical, (element, named, expression, broken) in cases(corpus):
        issues = [issue for issue in (*structure(broken), *room.validate(broken)) if issue.severity == "error"]
        if not any(issue.rule in named and issue.expression[0].startswith(expression) for issue in issues):
            missed.append((canonical, element, sorted(named), expression, [(issue.rule, issue.expression[0]) for issue in issues]))
    assert missed == []
    assert len(cases(corpus)) > 40
