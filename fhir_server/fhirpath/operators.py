"""FHIRPath's operators as makers of closures.

Specification: http://hl7.org/fhirpath/N1/#operations
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any

from fhir_server.fhirpath import equality, temporal
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Collection, Env, Evaluator, boolean, number, single_value
from fhir_server.fhirpath.items import of_system
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Temporal


def answer(value: Any) -> Collection:
    """A Python value as a collection; None is empty."""
    return [] if value is None else [of_system(value)]


def signed(sign: str, operand: Evaluator) -> Evaluator:
    """Unary + and -."""

    def evaluate(env: Env, focus: Collection) -> Collection:
        value = single_value(operand(env, focus), f"unary {sign}")
        if value is None:
            return []
        factor = -1 if sign == "-" else 1
        if isinstance(value, Quantity):
            return [of_system(Quantity(value.value * factor, value.unit, value.calendar))]
        if number(value) is None:
            raise FhirPathError(f"unary {sign} needs a number, not {value!r}")
        return [of_system(value * factor)]

    return evaluate


def _arithmetic(symbol: str, work: Callable[[Any, Any], Any]) -> Callable[[Evaluator, Evaluator], Evaluator]:
    def make(left: Evaluator, right: Evaluator) -> Evaluator:
        def evaluate(env: Env, focus: Collection) -> Collection:
            a = single_value(left(env, focus), f"'{symbol}'")
            b = single_value(right(env, focus), f"'{symbol}'")
            return [] if a is None or b is None else answer(work(a, b))

        return evaluate

    return make


def _mismatch(symbol: str, a: Any, b: Any) -> FhirPathError:
    return FhirPathError(f"'{symbol}' cannot work on {a!r} and {b!r}")


def _move(symbol: str, a: Temporal, b: Any) -> Temporal | None:
    if not isinstance(b, Quantity):
        raise _mismatch(symbol, a, b)
    unit = b.time_unit()
    if unit is None:
        raise FhirPathError(f"'{symbol}': {b} is no time that can be added to a date; use year, month, day ...")
    return temporal.add(a, b.value if symbol == "+" else -b.value, unit)


def _same_unit(a: Quantity, b: Quantity, symbol: str) -> tuple[Decimal, Decimal, str, bool] | None:
    if a.unit == b.unit and a.calendar == b.calendar:
        return a.value, b.value, a.unit, a.calendar
    x, y = a.base(), b.base()
    if x is None or y is None or x[0] != y[0]:
        return None
    factor = x[1] / a.value if a.value else Decimal(1)
    return a.value, y[1] / factor, a.unit, a.calendar


def _plus(a: Any, b: Any) -> Any:
    if isinstance(a, Temporal):
        return _move("+", a, b)
    if isinstance(a, str) and isinstance(b, str):
        return a + b
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        same = _same_unit(a, b, "+")
        return None if same is None else Quantity(same[0] + same[1], same[2], same[3])
    if number(a) is None or number(b) is None:
        raise _mismatch("+", a, b)
    return a + b


def _minus(a: Any, b: Any) -> Any:
    if isinstance(a, Temporal):
        return _move("-", a, b)
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        same = _same_unit(a, b, "-")
        return None if same is None else Quantity(same[0] - same[1], same[2], same[3])
    if number(a) is None or number(b) is None:
        raise _mismatch("-", a, b)
    return a - b


def _times(a: Any, b: Any) -> Any:
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        if b.unit == "1":
            return Quantity(a.value * b.value, a.unit, a.calendar)
        if a.unit == "1":
            return Quantity(a.value * b.value, b.unit, b.calendar)
        return Quantity(a.value * b.value, f"{a.unit}2" if a.unit == b.unit else f"{a.unit}.{b.unit}")
    if isinstance(a, Quantity) and (n := number(b)) is not None:
        return Quantity(a.value * n, a.unit, a.calendar)
    if isinstance(b, Quantity) and (n := number(a)) is not None:
        return Quantity(b.value * n, b.unit, b.calendar)
    if number(a) is None or number(b) is None:
        raise _mismatch("*", a, b)
    return a * b


def _quotient(a: Decimal, b: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = 28
        exact = a / b
    return exact.quantize(Decimal(1).scaleb(-8), ROUND_DOWN).normalize() if -int(exact.as_tuple().exponent) > 8 else exact


def _over(a: Any, b: Any) -> Any:
    if isinstance(a, Quantity):
        if isinstance(b, Quantity):
            if b.value == 0:
                return None
            if a.unit == b.unit:
                return Quantity(_quotient(a.value, b.value), "1")
            return Quantity(_quotient(a.value, b.value), a.unit if b.unit == "1" else f"{a.unit}/{b.unit}")
        n = number(b)
        if n is not None:
            return None if n == 0 else Quantity(_quotient(a.value, n), a.unit, a.calendar)
    x, y = number(a), number(b)
    if x is None or y is None:
        raise _mismatch("/", a, b)
    return None if y == 0 else _quotient(x, y)


def _div(a: Any, b: Any) -> Any:
    x, y = number(a), number(b)
    if x is None or y is None:
        raise _mismatch("div", a, b)
    return None if y == 0 else int((x / y).to_integral_value(ROUND_DOWN))


def _mod(a: Any, b: Any) -> Any:
    x, y = number(a), number(b)
    if x is None or y is None:
        raise _mismatch("mod", a, b)
    if y == 0:
        return None
    rest = x % y
    return int(rest) if isinstance(a, int) and isinstance(b, int) else rest


def _concatenate(left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        a, b = single_value(left(env, focus), "'&'"), single_value(right(env, focus), "'&'")
        for value in (a, b):
            if value is not None and not isinstance(value, str):
                raise FhirPathError(f"'&' needs strings, not {value!r}")
        return [of_system((a or "") + (b or ""))]

    return evaluate


def _comparison(symbol: str, test: Callable[[int], bool]) -> Callable[[Evaluator, Evaluator], Evaluator]:
    def make(left: Evaluator, right: Evaluator) -> Evaluator:
        def evaluate(env: Env, focus: Collection) -> Collection:
            a = single_value(left(env, focus), f"'{symbol}'")
            b = single_value(right(env, focus), f"'{symbol}'")
            if a is None or b is None:
                return []
            order = equality.compare_values(a, b, symbol)
            return [] if order is None else [of_system(test(order))]

        return evaluate

    return make


def _equals(left: Evaluator, right: Evaluator) -> Evaluator:
    return lambda env, focus: answer(equality.equal_collections(left(env, focus), right(env, focus)))


def _differs(left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        same = equality.equal_collections(left(env, focus), right(env, focus))
        return [] if same is None else [of_system(not same)]

    return evaluate


def _equivalent(left: Evaluator, right: Evaluator) -> Evaluator:
    return lambda env, focus: [of_system(equality.equivalent_collections(left(env, focus), right(env, focus)))]


def _not_equivalent(left: Evaluator, right: Evaluator) -> Evaluator:
    return lambda env, focus: [of_system(not equality.equivalent_collections(left(env, focus), right(env, focus)))]


def _union(left: Evaluator, right: Evaluator) -> Evaluator:
    return lambda env, focus: equality.distinct(left(env, focus) + right(env, focus))


def _in(left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        items, among = left(env, focus), right(env, focus)
        if len(items) > 1:
            raise FhirPathError(f"'in' needs a single item on its left, not {len(items)}")
        return [of_system(equality.contains(among, items[0]))] if items else []

    return evaluate


def _contains(left: Evaluator, right: Evaluator) -> Evaluator:
    inside = _in(right, left)
    return inside


def _and(left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        a, b = boolean(left(env, focus), "'and'"), boolean(right(env, focus), "'and'")
        return answer(False if a is False or b is False else None if a is None or b is None else True)

    return evaluate


def _or(left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        a, b = boolean(left(env, focus), "'or'"), boolean(right(env, focus), "'or'")
        return answer(True if a or b else None if a is None or b is None else False)

    return evaluate


def _xor(left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        a, b = boolean(left(env, focus), "'xor'"), boolean(right(env, focus), "'xor'")
        return answer(None if a is None or b is None else a != b)

    return evaluate


def _implies(left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        a = boolean(left(env, focus), "'implies'")
        if a is False:
            return [of_system(True)]
        b = boolean(right(env, focus), "'implies'")
        return answer(b if a else True if b else None)

    return evaluate


BINARY: dict[str, Callable[[Evaluator, Evaluator], Evaluator]] = {
    "+": _arithmetic("+", _plus),
    "-": _arithmetic("-", _minus),
    "*": _arithmetic("*", _times),
    "/": _arithmetic("/", _over),
    "div": _arithmetic("div", _div),
    "mod": _arithmetic("mod", _mod),
    "&": _concatenate,
    "=": _equals,
    "!=": _differs,
    "~": _equivalent,
    "!~": _not_equivalent,
    "<": _comparison("<", lambda order: order < 0),
    "<=": _comparison("<=", lambda order: order <= 0),
    ">": _comparison(">", lambda order: order > 0),
    ">=": _comparison(">=", lambda order: order >= 0),
    "|": _union,
    "in": _in,
    "contains": _contains,
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
}
