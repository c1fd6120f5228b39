"""What an evaluation carries along, and the rules by which collections become single values.

Specification: http://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.items import Collection, Item, system_value
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Temporal

MAX_ITEMS = 3_000_000
"""Items that one evaluation may touch in loops, so that no expression runs for ever."""
MAX_TEXT = 10_000_000
"""Longest string that an evaluation may make, in characters."""

Resolver: TypeAlias = Callable[[str], "dict[str, Any] | None"]
Many: TypeAlias = "Callable[[Collection, Env], Collection]"
"""Evaluates to a collection: (focus, env) -> items. The focus is $this; what it gives must never be changed."""
Truth: TypeAlias = "Callable[[Collection, Env], bool | None]"
"""Evaluates to true, false or None (empty)."""


class Purse:
    """How many items may still be touched, by one evaluation or by several together."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_ITEMS) -> None:
        self.left = left


class Env:
    """One evaluation: the resource at the root, variables, `$index`, `$total`, and the ports to the outside.

    `resolve(reference)` gives a resource dict or None; `terminology(function, item, argument)` answers memberOf and the like;
    `conforms(resource, url)` answers conformsTo (None: it does not know the profile). `now` is the instant of the whole evaluation;
    `slots` holds what defineVariable() defined.
    """

    __slots__ = (
        "conforms",
        "context",
        "index",
        "now",
        "purse",
        "resolve",
        "resource",
        "root",
        "slots",
        "terminology",
        "total",
        "traces",
        "variables",
    )

    def __init__(
        self,
        resource: Item | None,
        root: Item | None,
        context: Collection,
        variables: Mapping[str, Any],
        now: dt.datetime | None = None,
        resolve: Resolver | None = None,
        terminology: Callable[[str, Item, Any], Any] | None = None,
        conforms: Callable[[Any, str], bool | None] | None = None,
        traces: list[tuple[str, Collection]] | None = None,
        purse: Purse | None = None,
    ) -> None:
        self.resource, self.root, self.context, self.variables = resource, root, context, variables
        self.now, self.resolve, self.terminology, self.conforms, self.traces = now, resolve, terminology, conforms, traces
        self.index: int | None = None
        self.total: Collection = []
        self.slots: dict[int, Collection] = {}
        self.purse = purse or Purse()

    def spend(self, items: int) -> None:
        """Count items that a loop touches; raises FhirPathError when there were too many."""
        self.purse.left -= items
        if self.purse.left < 0:
            raise FhirPathError("the expression touches more items than it may", "表达式处理的项过多")

    def instant(self) -> dt.datetime:
        """The evaluation's own time, the same for each now(), today() and timeOfDay()."""
        if self.now is None:
            self.now = dt.datetime.now().astimezone()
        return self.now


def described(value: Any) -> str:
    """A value for messages, cut short."""
    if isinstance(value, Item):
        return f"a {value.type}"
    if isinstance(value, dict):
        return "an element with parts"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:60] + "…"


def described_zh(value: Any) -> str:
    """The same in Chinese."""
    if isinstance(value, Item):
        return f" {value.type} 类型的值"
    if isinstance(value, dict):
        return "有子元素的元素"
    text = f"“{value}”" if isinstance(value, str) else f" {value}"
    return text if len(text) <= 60 else text[:60] + "…"


def several(what: str, number: int) -> FhirPathError:
    """What needs a single item has been given several."""
    return FhirPathError(f"{what} needs a single item, not {number}", f"{what} 需要单个项，而不是 {number} 个")


def single(collection: Collection, what: str) -> Any:
    """The only item, None of an empty collection; raises FhirPathError for several."""
    if not collection:
        return None
    if len(collection) > 1:
        raise several(what, len(collection))
    return collection[0]


def single_value(collection: Collection, what: str) -> Any:
    """The System value of the only item, or None."""
    if not collection:
        return None
    if len(collection) > 1:
        raise several(what, len(collection))
    item = collection[0]
    return system_value(item) if item.__class__ is Item else item


def boolean(collection: Collection, what: str) -> bool | None:
    """A collection as a condition: its boolean, true for any other single item, None when empty."""
    if not collection:
        return None
    if len(collection) > 1:
        raise several(what, len(collection))
    value = collection[0]
    if value.__class__ is Item:
        value = value.value
    # An element that has only extensions is there, but it has no boolean to give.
    return value if value is True or value is False else None if collection[0].__class__ is Item and _valueless(collection[0]) else True


def _valueless(item: Item) -> bool:
    return item.value is None and item.kind.system == "Boolean"


def string(collection: Collection, what: str) -> str | None:
    """The only item as a string; raises FhirPathError for another type."""
    value = single_value(collection, what)
    if value is None or value.__class__ is str:
        return value
    if isinstance(value, Temporal) and isinstance(collection[0], Item):
        # FHIR's dates are strings to string functions: their text stands in the resource.
        return value.text
    given = collection[0] if isinstance(value, dict) else value
    raise FhirPathError(f"{what} needs a string, not {described(given)}", f"{what} 需要字符串，而不是{described_zh(given)}")


def integer(collection: Collection, what: str) -> int | None:
    """The only item as an integer; raises FhirPathError for another type."""
    value = single_value(collection, what)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise FhirPathError(f"{what} needs an integer, not {described(value)}", f"{what} 需要整数，而不是{described_zh(value)}")
    return value


def number(value: Any) -> Decimal | None:
    """An int or Decimal as Decimal; None for anything else."""
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else None


def checked_text(text: str) -> str:
    """The text, unless it is longer than an evaluation may make."""
    if len(text) > MAX_TEXT:
        raise FhirPathError(f"a string of more than {MAX_TEXT} characters would come out", f"结果字符串会超过 {MAX_TEXT} 个字符")
    return text


_SIMPLE = (bool, int, str, Decimal, Temporal, Quantity)


def is_simple(value: Any) -> bool:
    """Whether this is a System value."""
    return isinstance(value, _SIMPLE)
