"""What an evaluation carries along, and the rules by which collections become single values.

Specification: http://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.items import Item, system_value

Collection = list[Item]


@dataclass(slots=True)
class Env:
    """One evaluation: the resource at the root, variables, `$this`, `$index`, `$total`, and the ports to the outside.

    `resolve(reference)` gives a resource dict or None; `terminology(function, item, argument)` answers memberOf and the like;
    `conforms(resource, url)` answers conformsTo. `now` is the instant of the whole evaluation.
    """

    resource: Item | None
    root: Item | None
    context: Collection
    variables: Mapping[str, Any]
    now: dt.datetime
    resolve: Callable[[str], dict[str, Any] | None] | None = None
    terminology: Callable[[str, Item, Any], Any] | None = None
    conforms: Callable[[Any, str], bool] | None = None
    this: Collection = field(default_factory=list)
    index: int | None = None
    total: Collection | None = None
    traces: list[tuple[str, Collection]] = field(default_factory=list)
    defined: dict[str, Collection] = field(default_factory=dict)


Evaluator = Callable[[Env, Collection], Collection]


def single(collection: Collection, what: str) -> Item | None:
    """The only item, None of an empty collection; raises FhirPathError for several."""
    if not collection:
        return None
    if len(collection) > 1:
        raise FhirPathError(f"{what} needs a single item, not {len(collection)}")
    return collection[0]


def single_value(collection: Collection, what: str) -> Any:
    """The System value of the only item, or None."""
    item = single(collection, what)
    return None if item is None else system_value(item)


def boolean(collection: Collection, what: str) -> bool | None:
    """A collection as a condition: its boolean, true for any other single item, None when empty."""
    item = single(collection, what)
    if item is None:
        return None
    value = system_value(item)
    return value if isinstance(value, bool) else True


def string(collection: Collection, what: str) -> str | None:
    """The only item as a string; raises FhirPathError for another type."""
    value = single_value(collection, what)
    if value is not None and not isinstance(value, str):
        raise FhirPathError(f"{what} needs a string, not {value!r}")
    return value


def integer(collection: Collection, what: str) -> int | None:
    """The only item as an integer; raises FhirPathError for another type."""
    value = single_value(collection, what)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise FhirPathError(f"{what} needs an integer, not {value!r}")
    return value


def number(value: Any) -> Decimal | None:
    """An int or Decimal as Decimal; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return Decimal(value)
    return None
