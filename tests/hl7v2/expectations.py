"""The assertion language of the sample messages' cases (its README beside them): paths, matches, and how a resource is looked up."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

Resolve = Callable[[str], dict[str, Any]]


def values(resource: Any, path: str, resolve: Resolve) -> list[Any]:
    """All values at a dotted path: lists are flattened, '->' follows a reference, 'a|b' joins."""
    if "|" in path:
        return [value for part in path.split("|") for value in values(resource, part, resolve)]
    here: list[Any] = [resource]
    for hop, piece in enumerate(path.split("->")):
        if hop:
            here = [resolve(one["reference"]) for one in here if isinstance(one, dict) and "reference" in one]
        for name in piece.split("."):
            here = [value for one in here if isinstance(one, dict) and name in one for value in _flat(one[name])]
    return here


def _flat(value: Any) -> list[Any]:
    return [inner for one in value for inner in _flat(one)] if isinstance(value, list) else [value]


def matches(found: list[Any], match: Any) -> bool:
    """Whether the values at a path meet a MATCH."""
    if not isinstance(match, dict):
        return any(_equal(one, match) for one in found)
    rules: dict[str, Callable[[Any], bool]] = {
        "in": lambda wanted: any(one in wanted for one in found),
        "not": lambda unwanted: not any(_equal(one, unwanted) for one in found),
        "exists": lambda wanted: bool(found) is wanted,
        "regex": lambda form: any(re.search(form, str(one)) for one in found),
        "contains": lambda text: any(text in str(one) for one in found),
        "not_contains": lambda text: not any(text in str(one) for one in found),
        "instant": lambda when: any(_same_instant(one, when) for one in found),
        "decimal": lambda digits: any(str(one) == str(digits) for one in found),
        "count": lambda number: len(found) == number,
    }
    return all(rules[rule](wanted) for rule, wanted in match.items())


def _equal(one: Any, wanted: Any) -> bool:
    if isinstance(one, (int, float, Decimal)) and isinstance(wanted, (int, float, Decimal)) and not isinstance(one, bool):
        return Decimal(str(one)) == Decimal(str(wanted))
    return bool(one == wanted)


def _same_instant(one: Any, when: str) -> bool:
    try:
        return dt.datetime.fromisoformat(str(one)) == dt.datetime.fromisoformat(when)
    except (ValueError, TypeError):
        return False
