"""Equality, equivalence and order of items and collections.

Specification: http://hl7.org/fhirpath/N1/#equality, http://hl7.org/fhirpath/N1/#comparison
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any

from fhir_server.fhirpath import quantity, temporal
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import described, described_zh, number
from fhir_server.fhirpath.items import Collection, Item, system_value
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Temporal

_WIDE = Context(prec=200, rounding=ROUND_HALF_UP)


def equal(left: Any, right: Any) -> bool | None:
    """`=` of two items; None where the answer is empty (precision, units, an element without value).

    The text of a FHIR date is compared with a string as a date: both are written that way in a resource.
    """
    a = system_value(left) if left.__class__ is Item else left
    b = system_value(right) if right.__class__ is Item else right
    if a.__class__ is str and b.__class__ is str:
        return a == b
    if a is None or b is None:
        return _equal_extras(left, right) if a is b else None
    if a.__class__ is Temporal and b.__class__ is str and left.__class__ is Item:
        return equal_values(a, temporal.parse_temporal(b, a.kind) or b)
    if b.__class__ is Temporal and a.__class__ is str and right.__class__ is Item:
        return equal_values(temporal.parse_temporal(a, b.kind) or a, b)
    return equal_values(a, b)


def _equal_extras(left: Any, right: Any) -> bool:
    """Of two primitives without values: what stands beside them."""
    return isinstance(left, Item) and isinstance(right, Item) and key_of_json(left.extra) == key_of_json(right.extra)


def _pair(left: Any, right: Any) -> tuple[Any, Any]:
    """Implicit conversion: a number beside a Quantity becomes one; text beside a date becomes a date where it is one."""
    if isinstance(left, Quantity):
        if (n := number(right)) is not None:
            return left, Quantity(n)
        if isinstance(right, dict):
            return left, quantity.of_fhir(right) or right
    elif isinstance(right, Quantity) and (n := number(left)) is not None:
        return Quantity(n), right
    return left, right


def equal_values(left: Any, right: Any) -> bool | None:
    """`=` of two System values (or JSON objects)."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | Decimal) and isinstance(right, int | Decimal):
        return left == right
    if isinstance(left, Temporal) and isinstance(right, Temporal):
        if (left.kind == "Time") != (right.kind == "Time"):
            return False
        order = temporal.compare(left, right)
        return None if order is None else order == 0
    left, right = _pair(left, right)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        order = quantity.compare(left, right)
        # Different dimensions are different; what is not certain (1 year and 1 'a', an unknown unit) stays open.
        return order == 0 if order is not None else False if quantity.different(left, right) else None
    if isinstance(left, dict) and isinstance(right, dict):
        return left == right or key_of_json(left) == key_of_json(right)
    return left.__class__ is right.__class__ and left == right


def equal_collections(left: Collection, right: Collection) -> bool | None:
    """`=`: None when one side is empty; else item by item, in order."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    if len(left) == 1:
        return equal(left[0], right[0])
    unknown = False
    for a, b in zip(left, right, strict=True):
        answer = equal(a, b)
        if answer is False:
            return False
        unknown |= answer is None
    return None if unknown else True


def key_of_json(value: Any) -> Hashable:
    """A key that two JSON values share when they are equal (1.0 = 1.00, true is not 1)."""
    if isinstance(value, dict):
        return frozenset((name, key_of_json(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return tuple(key_of_json(inner) for inner in value)
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, float):
        return Decimal(repr(value))
    return value


def key(item: Any) -> Hashable:
    """A key for sets: equal items have equal keys. None of those for which `=` may be open; they must be compared."""
    value = system_value(item) if item.__class__ is Item else item
    kind = value.__class__
    if kind is str:
        return value
    if kind is bool:
        return ("boolean", value)
    if isinstance(value, int | Decimal):
        return value
    if isinstance(value, dict):
        return key_of_json(value)
    if value is None:
        return ("extra", key_of_json(item.extra))
    return None


class Seen:
    """A set of items by `=`: quick for what has a key, by comparing for dates and quantities."""

    __slots__ = ("_keys", "_others")

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._keys: set[Hashable] = set()
        self._others: list[Any] = []
        for item in items:
            self.add(item)

    def add(self, item: Any) -> bool:
        """Whether it was not there yet; it is now."""
        found = key(item)
        if found is not None:
            before = len(self._keys)
            self._keys.add(found)
            return len(self._keys) != before and not (self._others and self._beside(item))
        if item in self:
            return False
        if len(self._others) > 20_000:
            raise FhirPathError("too many different dates or quantities are compared with each other", "相互比较的日期或数量过多")
        self._others.append(item)
        return True

    def _beside(self, item: Any) -> bool:
        """A number may equal a quantity without unit."""
        return any(equal(other, item) is True for other in self._others)

    def __contains__(self, item: Any) -> bool:
        found = key(item)
        if found is not None and found in self._keys:
            return True
        if self._others and self._beside(item):
            return True
        return found is None and isinstance(value := system_value(item), Quantity) and value.code == "1" and value.value in self._keys


def distinct(collection: Collection) -> Collection:
    """The items without repetitions, first ones kept."""
    if len(collection) < 2:
        return collection
    seen = Seen()
    return [item for item in collection if seen.add(item)]


def contains(collection: Collection, item: Any) -> bool:
    """Whether some item of the collection equals this one."""
    return any(equal(other, item) is True for other in collection)


def _scale(value: Decimal) -> int:
    return max(0, -int(value.normalize(_WIDE).as_tuple().exponent))


def equivalent_numbers(a: Decimal, b: Decimal) -> bool:
    """Equal when rounded to the precision of the less precise one (trailing zeros do not count)."""
    step = Decimal(1).scaleb(-min(_scale(a), _scale(b)))
    try:
        return a.quantize(step, context=_WIDE) == b.quantize(step, context=_WIDE)
    except InvalidOperation:  # more digits than that
        return a == b


def equivalent_values(left: Any, right: Any) -> bool:
    """`~` of two System or raw JSON values."""
    if isinstance(left, str) and isinstance(right, str):
        return " ".join(left.split()).casefold() == " ".join(right.split()).casefold()
    if isinstance(left, Temporal) and isinstance(right, Temporal):
        return (left.kind == "Time") == (right.kind == "Time") and temporal.compare(left, right) == 0
    left, right = _pair(left, right)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return quantity.equivalent(left, right)
    a, b = number(left), number(right)
    if a is not None and b is not None:
        return equivalent_numbers(a, b)
    if isinstance(left, dict) and isinstance(right, dict):
        names = left.keys() - {"id"}
        return names == right.keys() - {"id"} and all(_equivalent_json(left[name], right[name]) for name in names)
    return left is right if left is None or right is None else equal_values(left, right) is True


def _equivalent_json(left: Any, right: Any) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        return _match(left, right, _equivalent_json)
    left = Decimal(repr(left)) if isinstance(left, float) else left
    right = Decimal(repr(right)) if isinstance(right, float) else right
    return equivalent_values(left, right)


def _match(left: list[Any], right: list[Any], same: Any) -> bool:
    """Whether each of one side has its own partner on the other."""
    if len(left) != len(right):
        return False
    rest = list(right)
    for one in left:
        for k, other in enumerate(rest):
            if same(one, other):
                del rest[k]
                break
        else:
            return False
    return True


def equivalent_collections(left: Collection, right: Collection) -> bool:
    """`~`: always an answer; the order does not matter."""
    if len(left) == len(right) > 2000:
        raise FhirPathError("'~' compares at most 2000 items with each other", "“~”最多比较 2000 个项")
    return _match([system_value(item) for item in left], [system_value(item) for item in right], equivalent_values)


def compare_values(left: Any, right: Any, operator: str) -> int | None:
    """Order of two System values for < > <= >=; None where it is open; raises FhirPathError for types that have no order."""
    if left.__class__ is str and right.__class__ is str:
        return (left > right) - (left < right)
    if isinstance(left, Temporal) and isinstance(right, Temporal) and (left.kind == "Time") == (right.kind == "Time"):
        return temporal.compare(left, right)
    left, right = _pair(left, right)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return quantity.compare(left, right)
    a, b = number(left), number(right)
    if a is not None and b is not None:
        return (a > b) - (a < b)
    raise FhirPathError(
        f"'{operator}' has no order for {described(left)} and {described(right)}",
        f"“{operator}”无法比较{described_zh(left)}与{described_zh(right)}的大小",
    )
