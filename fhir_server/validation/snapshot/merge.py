"""What a differential's ElementDefinition changes of the one that it constrains.

Specification: https://hl7.org/fhir/R4/elementdefinition.html#interpretation
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from fhir_server.validation.snapshot.tree import Definition

_ADDED = ("alias", "code", "condition", "example", "mapping")
"""Lists to which a differential adds."""
_TEXTS = ("definition", "comment", "requirements")
"""Texts that may begin with '...': then they go on where the base's ends."""
_FIRST = ("fixed", "pattern", "minValue", "maxValue", "defaultValue")
"""Choices: a new value takes the place of one of another type."""


class SnapshotError(Exception):
    """The differential cannot be laid over its base; the message names the element and says why."""


def check_change(base: Definition, change: Mapping[str, Any], where: str) -> None:
    """Raise SnapshotError where a differential allows what its base does not."""
    types = {one.get("code") for one in base.get("type") or () if not str(one.get("code")).startswith(SYSTEM)}
    asked = [one.get("code") for one in change.get("type") or ()]
    strange = [str(code) for code in asked if code not in types and not types & _ANY] if types else []
    if strange:
        listed = ", ".join(sorted(map(str, types)))
        raise SnapshotError(f"{where}: the type {', '.join(strange)} is none of those that the base permits ({listed})")
    for family in ("fixed", "pattern"):
        for key in change:
            kinds = {capital(code) for code in asked or types if code}
            if key.startswith(family) and key != "fixed" and kinds and key[len(family) :] not in kinds and not kinds & _UNTYPED:
                raise SnapshotError(f"{where}: {key} is of another type than the element ({', '.join(sorted(kinds))})")
    if base.get("mustSupport") and change.get("mustSupport") is False and "sliceName" not in change:
        raise SnapshotError(f"{where}: mustSupport is true in the base, so it cannot be false")


def check_limits(base: Definition, change: Mapping[str, Any], where: str) -> None:
    """Raise SnapshotError where a differential permits fewer or more elements than its base."""
    low, high = change.get("min"), change.get("max")
    if isinstance(low, int) and "sliceName" not in change and "sliceName" not in base and low < base.get("min", 0):
        raise SnapshotError(f"{where}: the base demands at least {base['min']}, so the minimum cannot be {low}")
    if isinstance(high, str) and "max" in base and _number(high) > _number(base["max"]):
        raise SnapshotError(f"{where}: the base allows at most {base['max']}, so the maximum cannot be {high}")


def _number(max: str) -> float:
    return float("inf") if max == "*" else float(max)


def capital(code: str) -> str:
    """A type as it stands in the name of a choice: dateTime -> DateTime."""
    return code[:1].upper() + code[1:]


_ANY = frozenset({"Resource", "DomainResource", "Element", "BackboneElement", "*"})
"""Types in the place of which any may stand that is derived of them."""
_UNTYPED = frozenset({"Element", "Resource"})
SYSTEM = "http://hl7.org/fhirpath/System."
"""Types of the values of primitives."""


def merge(base: Definition, change: Mapping[str, Any], source: str) -> Definition:
    """The base as changed. `source`: canonical of the profile, which its constraints name."""
    merged = dict(base)
    for key, value in change.items():
        if key in ("id", "path", "base"):
            continue
        # What would allow more than the base changes nothing.
        if key == "max" and _number(value) > _number(base.get("max", "*")) and "base" in base and "sliceName" not in change:
            continue
        if key == "min" and value < base.get("min", 0) and "sliceName" not in change:
            continue
        if key in _ADDED:
            there = merged.get(key, [])
            merged[key] = [*there, *(one for one in value if one not in there)]
        elif key in _TEXTS and isinstance(value, str) and value.startswith("..."):
            merged[key] = f"{merged.get(key, '')}\r\n{value[3:]}".strip()
        elif key == "constraint":
            merged[key] = _constraints(merged.get(key, []), value, source)
        elif key == "extension":
            urls = {one.get("url") for one in value}
            merged[key] = [*(one for one in merged.get(key, []) if one.get("url") not in urls), *value]
        elif key == "binding":
            merged[key] = {**merged.get(key, {}), **deepcopy(value)}
        else:
            family = next((name for name in _FIRST if key.startswith(name)), None)
            if family:
                for other in [name for name in merged if name.startswith(family)]:
                    del merged[other]
            merged[key] = deepcopy(value)
    return merged


def _constraints(base: list[Any], added: list[Any], source: str) -> list[Any]:
    """A constraint of the same key says it anew."""
    keys = {one.get("key") for one in added}
    return [*(one for one in base if one.get("key") not in keys), *({"source": source, **one} for one in added)]
