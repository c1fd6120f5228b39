"""Mathematics and aggregates.

Specification: http://hl7.org/fhirpath/N1/#math, http://hl7.org/fhirpath/N1/#aggregates
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from typing import Any

from fhir_server.fhirpath import equality
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Collection, Env, Evaluator, number
from fhir_server.fhirpath.functions.declare import Function, Iteration, answer, on_value
from fhir_server.fhirpath.items import of_system, system_value
from fhir_server.fhirpath.operators import BINARY
from fhir_server.fhirpath.quantity import Quantity


def _numeric(name: str, work: Callable[..., Any], arguments: int = 0, optional: int = 0) -> Function:
    def checked(value: Any, *given: Any) -> Any:
        if isinstance(value, Quantity) and not given:
            found = work(value.value)
            return Quantity(Decimal(found), value.unit, value.calendar)
        n = number(value)
        if n is None:
            raise FhirPathError(f"{name}() needs a number, not {value!r}")
        if any(number(one) is None for one in given):
            raise FhirPathError(f"{name}() needs numbers as arguments")
        try:
            with localcontext() as context:
                context.prec = 28
                return work(value if isinstance(value, int) else n, *given)
        except (InvalidOperation, ZeroDivisionError, OverflowError):
            return None

    return on_value(name, checked, arguments, optional)


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if abs(base) > 1 and exponent > 1000:
            return None
        return base**exponent
    return Decimal(base) ** Decimal(exponent)


def _sqrt(value: Any) -> Any:
    return None if value < 0 else Decimal(value).sqrt()


def _log(value: Any, base: Any) -> Any:
    return None if value <= 0 or base <= 0 or base == 1 else _tidy(Decimal(value).ln() / Decimal(base).ln())


def _tidy(value: Decimal) -> Decimal:
    return value.quantize(Decimal("1e-16")).normalize() + 0


def _round(value: Any, digits: Any = 0) -> Any:
    if digits < 0:
        raise FhirPathError("round() needs a precision of 0 or more")
    return Decimal(value).quantize(Decimal(1).scaleb(-int(digits)), ROUND_HALF_UP)


def _aggregate(step: Evaluator, start: Evaluator | None = None) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        before = env.total
        env.total = start(env, focus) if start else []
        with Iteration(env) as each:
            for k, item in enumerate(focus):
                env.total = step(env, each.at(item, k))
        found, env.total = env.total, before
        return found

    return evaluate


def _sum(env: Env, focus: Collection) -> Collection:
    if not focus:
        return [of_system(0)]
    plus = BINARY["+"]
    total = [focus[0]]
    for item in focus[1:]:
        left, right = total, [item]
        total = plus(lambda e, f, left=left: left, lambda e, f, right=right: right)(env, focus)  # type: ignore[misc]
    return total


def _extreme(sign: int) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        best = None
        for item in focus:
            value = system_value(item)
            order = 1 if best is None else equality.compare_values(value, best, "min() and max()")
            if best is None or (order is not None and order * sign > 0):
                best = value
        return answer(best)

    return evaluate


def _average(env: Env, focus: Collection) -> Collection:
    if not focus:
        return []
    total = _sum(env, focus)
    count = [of_system(len(focus))]
    return BINARY["/"](lambda e, f: total, lambda e, f: count)(env, focus)


FUNCTIONS = {
    "abs": _numeric("abs", abs),
    "ceiling": _numeric("ceiling", lambda value: int(Decimal(value).to_integral_value(ROUND_CEILING))),
    "floor": _numeric("floor", lambda value: int(Decimal(value).to_integral_value(ROUND_FLOOR))),
    "truncate": _numeric("truncate", lambda value: int(Decimal(value).to_integral_value(ROUND_DOWN))),
    "exp": _numeric("exp", lambda value: _tidy(Decimal(value).exp())),
    "ln": _numeric("ln", lambda value: None if value <= 0 else _tidy(Decimal(value).ln())),
    "log": _numeric("log", _log, 1),
    "power": _numeric("power", _power, 1),
    "round": _numeric("round", _round, 0, 1),
    "sqrt": _numeric("sqrt", _sqrt),
    "aggregate": Function(_aggregate, 1, 2),
    "sum": Function(lambda: _sum),
    "min": Function(lambda: _extreme(-1)),
    "max": Function(lambda: _extreme(1)),
    "avg": Function(lambda: _average),
}
