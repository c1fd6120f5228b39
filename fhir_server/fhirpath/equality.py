"""Equality, equivalence and order of items and collections.

Specification: http://hl7.org/fhirpath/N1/#equality, http://hl7.org/fhirpath/N1/#comparison
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from fhir_server.fhirpath import quantity, temporal
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Collection, number
from fhir_server.fhirpath.items import Item, system_value
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Temporal


def _pair(left: Any, right: Any) -> tuple[Any, Any]:
    """Implicit conversions: a number beside a Quantity becomes one, a Date beside a DateTime too."""
    if isinstance(left, Quantity) and (n := number(right)) is not None:
        right = Quantity(n, "1")
    elif isinstance(right, Quantity) and (n := number(left)) is not None:
        left = Quantity(n, "1")
    return left, right


def equal(left: Item, right: Item) -> bool | None:
    """`=` of two items; None where the answer is empty (precision, units)."""
    return equal_values(system_value(left), system_value(right))


def equal_values(left: Any, right: Any) -> bool | None:
    left, right = _pair(left, right)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right if isinstance(left, bool) and isinstance(right, bool) else False
    if isinstance(left, Temporal) and isinstance(right, Temporal):
        if (left.kind == "Time") != (right.kind == "Time"):
            return False
        order = temporal.compare(left, right)
        return None if order is None else order == 0
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        order = quantity.compare(left, right)
        return None if order is None else order == 0
    a, b = number(left), number(right)
    if a is not None and b is not None:
        return a == b
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same_json(left[key], right[key]) for key in left)
    return type(left) is type(right) and left == right


def _same_json(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same_json(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same_json, left, right))
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def equal_collections(left: Collection, right: Collection) -> bool | None:
    """`=`: None when one side is empty; else item by item, in order."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    unknown = False
    for a, b in zip(left, right, strict=True):
        answer = equal(a, b)
        if answer is False:
            return False
        unknown |= answer is None
    return None if unknown else True


def _scale(value: Decimal) -> int:
    return max(0, -int(value.normalize().as_tuple().exponent))


def equivalent_values(left: Any, right: Any) -> bool:
    """`~` of two System or raw values."""
    left, right = _pair(left, right)
    if isinstance(left, str) and isinstance(right, str):
        return " ".join(left.split()).casefold() == " ".join(right.split()).casefold()
    if isinstance(left, Temporal) and isinstance(right, Temporal):
        return temporal.compare(left, right) == 0 and (left.kind == right.kind or "Time" not in (left.kind, right.kind))
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return _equivalent_quantities(left, right)
    a, b = number(left), number(right)
    if a is not None and b is not None:
        return _equivalent_numbers(a, b)
    if isinstance(left, dict) and isinstance(right, dict):
        keys = {k for k in left if k != "id"}, {k for k in right if k != "id"}
        return keys[0] == keys[1] and all(_equivalent_json(left[key], right[key]) for key in keys[0])
    return equal_values(left, right) is True


def _equivalent_numbers(a: Decimal, b: Decimal) -> bool:
    step = Decimal(1).scaleb(-min(_scale(a), _scale(b)))
    return a.quantize(step, ROUND_HALF_UP) == b.quantize(step, ROUND_HALF_UP)


def _equivalent_quantities(left: Quantity, right: Quantity) -> bool:
    if left.unit == right.unit and left.calendar == right.calendar:
        return _equivalent_numbers(left.value, right.value)
    a, b = left.base(), right.base()
    if a is None or b is None or a[0] != b[0]:
        return False
    # The least precise operand decides: compared in its unit.
    coarse, fine = (left, right) if _scale(left.value) <= _scale(right.value) else (right, left)
    unit = (coarse.base() or ("", Decimal(1)))[1] / coarse.value if coarse.value else Decimal(1)
    return _equivalent_numbers(coarse.value, (fine.base() or ("", Decimal(0)))[1] / unit)


def _equivalent_json(left: Any, right: Any) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        rest = list(right)
        for one in left:
            for k, other in enumerate(rest):
                if _equivalent_json(one, other):
                    del rest[k]
                    break
            else:
                return False
        return not rest
    if isinstance(left, float):
        left = Decimal(repr(left))
    if isinstance(right, float):
        right = Decimal(repr(right))
    return equivalent_values(left, right)


def equivalent_collections(left: Collection, right: Collection) -> bool:
    """`~`: always an answer; the order does not matter."""
    if len(left) != len(right):
        return False
    rest = [system_value(item) for item in right]
    for item in left:
        value = system_value(item)
        for k, other in enumerate(rest):
            if equivalent_values(value, other):
                del rest[k]
                break
        else:
            return False
    return True


def compare_values(left: Any, right: Any, operator: str) -> int | None:
    """Order of two System values for < > <= >=; None where it is open; raises FhirPathError for types that have no order."""
    left, right = _pair(left, right)
    if isinstance(left, str) and isinstance(right, str):
        return (left > right) - (left < right)
    if isinstance(left, Temporal) and isinstance(right, Temporal) and (left.kind == "Time") == (right.kind == "Time"):
        return temporal.compare(left, right)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return quantity.compare(left, right)
    a, b = number(left), number(right)
    if a is not None and b is not None:
        return (a > b) - (a < b)
    raise FhirPathError(f"'{operator}' has no order for {left!r} and {right!r}")


def distinct(collection: Collection) -> Collection:
    """The items without repetitions, first ones kept."""
    found: Collection = []
    seen: set[Any] = set()
    for item in collection:
        value = system_value(item)
        if isinstance(value, str | int | bool):
            key = (isinstance(value, bool), isinstance(value, str), value)
            if key in seen:
                continue
            seen.add(key)
            found.append(item)
        elif not any(equal(item, other) is True for other in found):
            found.append(item)
    return found


def contains(collection: Collection, item: Item) -> bool:
    """Whether some item of the collection equals this one."""
    return any(equal(other, item) is True for other in collection)
