"""FHIRPath's operators on values and collections.

Specification: http://hl7.org/fhirpath/N1/#operations
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_DOWN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Any

from fhir_server.fhirpath import equality, quantity, temporal
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import checked_text, described, described_zh, number
from fhir_server.fhirpath.items import Collection, Long, system_value
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Temporal

DECIMALS = Context(prec=28, traps=[InvalidOperation, DivisionByZero, Overflow])
"""Decimal arithmetic of FHIRPath: 28 digits; what leaves the range raises, and the result is empty then."""


def in_range(value: int) -> int | None:
    """An integer that fits its type (32 bits, a Long 64), else None: overflow gives empty."""
    limit = 2**63 if isinstance(value, Long) else 2**31
    return value if -limit <= value < limit else None


def _mismatch(symbol: str, a: Any, b: Any) -> FhirPathError:
    return FhirPathError(
        f"'{symbol}' cannot work on {described(a)} and {described(b)}", f"“{symbol}”不能用于{described_zh(a)}和{described_zh(b)}"
    )


def _numeric(symbol: str, a: Any, b: Any, whole: Callable[[int, int], int], exact: Callable[[Decimal, Decimal], Decimal]) -> Any:
    if isinstance(a, bool) or isinstance(b, bool) or not (isinstance(a, int | Decimal) and isinstance(b, int | Decimal)):
        raise _mismatch(symbol, a, b)
    if isinstance(a, int) and isinstance(b, int):
        found = whole(a, b)
        return in_range(Long(found) if isinstance(a, Long) or isinstance(b, Long) else found)
    try:
        return exact(Decimal(a), Decimal(b))
    except (InvalidOperation, Overflow):
        return None


def _move(symbol: str, a: Temporal, b: Any) -> Temporal | None:
    if not isinstance(b, Quantity):
        raise _mismatch(symbol, a, b)
    unit = b.time_unit()
    if unit is None:
        raise FhirPathError(
            f"'{symbol}': {b} is no time of definite length; to a date add year, month, week, day, hour, minute or second",
            f"“{symbol}”：{b} 不是确定的时长；日期可加 year、month、week、day、hour、minute、second",
        )
    if a.kind == "Time" and unit not in ("hour", "minute", "second", "millisecond"):
        raise FhirPathError(f"'{symbol}': {b} cannot be added to a time of day", f"“{symbol}”：{b} 不能加到时刻上")
    return temporal.add(a, b.value if symbol == "+" else -b.value, unit)


def plus(a: Any, b: Any) -> Any:
    """a + b; None where the result is empty."""
    if isinstance(a, str) and isinstance(b, str):
        return checked_text(a + b)
    if isinstance(a, Temporal):
        return _move("+", a, b)
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        return quantity.added(a, b, 1)
    return _numeric("+", a, b, int.__add__, DECIMALS.add)


def minus(a: Any, b: Any) -> Any:
    """a - b"""
    if isinstance(a, Temporal):
        return _move("-", a, b)
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        return quantity.added(a, b, -1)
    return _numeric("-", a, b, int.__sub__, DECIMALS.subtract)


def times(a: Any, b: Any) -> Any:
    """a * b"""
    if isinstance(a, Quantity) or isinstance(b, Quantity):
        x, y = _as_quantity(a), _as_quantity(b)
        if x is None or y is None:
            raise _mismatch("*", a, b)
        return quantity.multiplied(x, y, 1)
    return _numeric("*", a, b, int.__mul__, DECIMALS.multiply)


def over(a: Any, b: Any) -> Any:
    """a / b, always a decimal; empty when divided by zero."""
    if isinstance(a, Quantity) or isinstance(b, Quantity):
        x, y = _as_quantity(a), _as_quantity(b)
        if x is None or y is None:
            raise _mismatch("/", a, b)
        return quantity.multiplied(x, y, -1)
    n, m = number(a), number(b)
    if n is None or m is None:
        raise _mismatch("/", a, b)
    try:
        return None if m == 0 else DECIMALS.divide(n, m)
    except (InvalidOperation, Overflow):
        return None


def _as_quantity(value: Any) -> Quantity | None:
    if isinstance(value, Quantity):
        return value
    n = number(value)
    return None if n is None else Quantity(n)


def div(a: Any, b: Any) -> Any:
    """Whole part of a / b."""
    return _whole("div", a, b, DECIMALS.divide_int)


def mod(a: Any, b: Any) -> Any:
    """Remainder of the truncated division."""
    return _whole("mod", a, b, DECIMALS.remainder)


def _whole(symbol: str, a: Any, b: Any, work: Callable[[Decimal, Decimal], Decimal]) -> Any:
    x, y = number(a), number(b)
    if x is None or y is None:
        raise _mismatch(symbol, a, b)
    if y == 0:
        return None
    try:
        found = work(x, y)
    except (InvalidOperation, Overflow):
        return None
    if symbol == "mod" and not (isinstance(a, int) and isinstance(b, int)):
        return found
    return in_range(int(found.to_integral_value(ROUND_DOWN)))


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {"+": plus, "-": minus, "*": times, "/": over, "div": div, "mod": mod}
ORDER: dict[str, Callable[[int], bool]] = {
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}


def signed(sign: str, value: Any) -> Any:
    """Unary + and - of a value."""
    if isinstance(value, Quantity):
        return value.with_value(-value.value) if sign == "-" else value
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise FhirPathError(f"unary {sign} needs a number, not {described(value)}", f"一元 {sign} 需要数值，而不是{described_zh(value)}")
    if sign == "+":
        return value
    return in_range(type(value)(-value)) if isinstance(value, int) else DECIMALS.minus(value)


def member(items: Collection, among: Collection, what: str) -> bool | None:
    """`items in among`: None when `items` is empty; raises FhirPathError for several items."""
    if not items:
        return None
    if len(items) > 1:
        raise FhirPathError(f"'{what}' looks for a single item, not {len(items)}", f"“{what}”查找单个项，而不是 {len(items)} 个")
    item = items[0]
    value = system_value(item)
    if value.__class__ is str:
        for other in among:
            if system_value(other) == value:
                return True
        if not any(isinstance(system_value(other), Temporal) for other in among):
            return False
    return equality.contains(among, item)
