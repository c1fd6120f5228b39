"""Mathematics and aggregates.

Specification: http://hl7.org/fhirpath/N1/#math, http://hl7.org/fhirpath/N1/#aggregates
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from typing import Any

from fhir_server.fhirpath.code import Code, of_value
from fhir_server.fhirpath.equality import compare_values
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Env, described, described_zh
from fhir_server.fhirpath.functions.declare import Function, Site, on_value
from fhir_server.fhirpath.items import Collection, Long, system_value
from fhir_server.fhirpath.operators import DECIMALS, in_range, over, plus
from fhir_server.fhirpath.quantity import Quantity


def _numeric(name: str, work: Callable[..., Any], arguments: int = 0, optional: int = 0, *, quantities: bool = False) -> Function:
    """A function of numbers; out of range or undefined gives empty. `quantities`: it works on the number of a Quantity, too."""

    def checked(value: Any, *given: Any) -> Any:
        if quantities and isinstance(value, Quantity):
            found = checked(value.value, *given)
            return None if found is None else value.with_value(Decimal(found))
        for one in (value, *given):
            if isinstance(one, bool) or not isinstance(one, int | Decimal):
                raise FhirPathError(f"{name}() needs numbers, not {described(one)}", f"{name}() 需要数值，而不是{described_zh(one)}")
        try:
            with localcontext(DECIMALS):
                found = work(value, *given)
        except (InvalidOperation, DivisionByZero, Overflow):
            return None
        return in_range(found) if isinstance(found, int) else found

    return on_value(checked, arguments, optional)


def _whole(rounding: str) -> Callable[[Any], int]:
    return lambda value: value if isinstance(value, int) else int(value.to_integral_value(rounding))


def _power(base: Any, exponent: Any) -> Any:
    found = Decimal(base) ** Decimal(exponent)
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        return int(found) if abs(found) < 2**63 else None
    return _tidy(found)


def _sqrt(value: Any) -> Any:
    return None if value < 0 else _tidy(Decimal(value).sqrt())


def _ln(value: Any) -> Any:
    return None if value <= 0 else _tidy(Decimal(value).ln())


def _log(value: Any, base: Any) -> Any:
    return None if value <= 0 or base <= 0 or base == 1 else _tidy(Decimal(value).ln() / Decimal(base).ln())


def _tidy(value: Decimal) -> Decimal:
    """Without the noise of the last digits: 100.log(10) is 2, not 2.000000000000000000000000001."""
    return +value.quantize(Decimal(1).scaleb(min(value.adjusted(), 0) - 20 if value else 0)).normalize() if value.adjusted() < 7 else value


def _round(value: Any, digits: Any = 0) -> Any:
    if not isinstance(digits, int) or digits < 0:
        raise FhirPathError(f"round() needs a precision of 0 or more, not {digits}", f"round() 的精度须不小于 0，而不是 {digits}")
    if digits > 28:
        return None
    exact = Decimal(value)
    return exact if -int(exact.as_tuple().exponent) <= digits else exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def _aggregate(site: Site) -> Code:
    source, step, walk = site.input, site.each(0).many, site.walk(0)
    start = site.argument(1) if site.given > 1 else None

    def evaluate(focus: Collection, env: Env) -> Collection:
        before = env.total
        total = start(focus, env) if start else []
        for here in walk(source(focus, env), env):
            env.total = total
            total = step(here, env)
        env.total = before
        return total

    return Code(evaluate)


def _fold(work: Callable[[list[Any]], Any]) -> Function:
    def build(site: Site) -> Code:
        source = site.input

        def value(focus: Collection, env: Env) -> Any:
            items = source(focus, env)
            env.spend(len(items))
            return work([system_value(item) for item in items])

        return of_value(value)

    return Function(build)


def _sum(values: list[Any]) -> Any:
    if not values:
        return None
    total = values[0]
    for value in values[1:]:
        if total is None:
            return None
        total = plus(total, value)
    return total


def _average(values: list[Any]) -> Any:
    total = _sum(values)
    return None if total is None else over(total, len(values))


def _extreme(name: str, sign: int) -> Callable[[list[Any]], Any]:
    def find(values: list[Any]) -> Any:
        best = None
        for value in values:
            if best is None:
                best = value
                continue
            order = compare_values(value, best, f"{name}()")
            if order is None:
                return None
            if order * sign > 0:
                best = value
        return best

    return find


FUNCTIONS = {
    "abs": _numeric("abs", lambda value: Long(abs(value)) if isinstance(value, Long) else abs(value), quantities=True),
    "ceiling": _numeric("ceiling", _whole(ROUND_CEILING), quantities=True),
    "floor": _numeric("floor", _whole(ROUND_FLOOR), quantities=True),
    "truncate": _numeric("truncate", _whole(ROUND_DOWN), quantities=True),
    "exp": _numeric("exp", lambda value: _tidy(Decimal(value).exp())),
    "ln": _numeric("ln", _ln),
    "log": _numeric("log", _log, 1),
    "power": _numeric("power", _power, 1),
    "round": _numeric("round", _round, 0, 1, quantities=True),
    "sqrt": _numeric("sqrt", _sqrt),
    "aggregate": Function(_aggregate, 1, 2),
    "sum": _fold(_sum),
    "min": _fold(_extreme("min", -1)),
    "max": _fold(_extreme("max", 1)),
    "avg": _fold(_average),
}
