"""Conversion between units, and the canonical form by which quantities in different units are found and compared.

Specification: https://ucum.org/ucum (§17-§26); search: https://hl7.org/fhir/R4/search.html#quantity
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow, Underflow
from fractions import Fraction
from functools import lru_cache

from fhir_server.terminology.ucum.errors import UcumError
from fhir_server.terminology.ucum.functions import LIMIT, WORK, Domain
from fhir_server.terminology.ucum.unit import Unit, base_text, parse

DIGITS = 34
"""Significant digits of a result that is not finite (decimal128)."""

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Overflow, Underflow, Inexact])
_ROUNDED = Context(prec=DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Overflow, Underflow])

Converter = Callable[[Decimal], Decimal]


def comparable(a: str, b: str) -> bool:
    """Whether quantities in units `a` and `b` can be compared and converted (§17). Raises UcumError where one is no code."""
    return parse(a).dimension == parse(b).dimension


def convert(value: Decimal | int, source: str, target: str) -> Decimal:
    """`value` in unit `source` as a number of units `target`.

    Exact where the result is a finite decimal, else correctly rounded to 34 significant digits (scales other than ratio and temperature
    scales: the last of them may be off). Raises UcumError where a code is wrong, the units are not commensurable, or the value is not
    finite, too large to be calculated with, or outside the scale (the logarithm of 0).
    """
    return _apply(_pair(source, target), value, source)


def canonical(value: Decimal | int, code: str) -> tuple[Decimal, str]:
    """`value` in base units and these as a code ('g.m-1.s-2', '1', '[iU].m-3').

    The code is the same for all commensurable units and the number the same for equal quantities: 5400 mg and 5.4 g are (5.4, 'g').
    mol is a number in UCUM: mmol/L is m-3. Exactness and errors as with `convert`.
    """
    base = parse(code).base
    return _apply(_pair(code, base), value, code), base


def canonical_interval(low: Decimal | float | None, high: Decimal | float | None, code: str) -> tuple[float, float, str]:
    """A range of values in base units, as the nearest doubles, and the base units as a code; None is an open end.

    Equal quantities in different units give the same double, because the exact product is rounded once: give Decimals, as a float was
    rounded before. Scales that run the other way (pH) exchange the ends. What a double cannot hold is infinite, or zero.
    Raises UcumError where the code is wrong or a value is outside the scale.
    """
    base, to_double, decreasing = _to_base(code)
    if decreasing:
        low, high = high, low
    return (
        -math.inf if low is None else to_double(low),
        math.inf if high is None else to_double(high),
        base,
    )


def _apply(converter: Converter, value: Decimal | int, code: str) -> Decimal:
    if not isinstance(value, Decimal):
        value = Decimal(value)
    try:
        if not value.is_finite():
            raise UcumError(code, f"{value} is no number that has a unit")
        return converter(value)
    except Domain as domain:
        raise UcumError(code, f"{value} is outside its scale: {domain}") from None
    except DecimalException:
        raise UcumError(code, f"{value} is too large or too small to be converted") from None


@lru_cache(maxsize=4096)
def _pair(source: str, target: str) -> Converter:
    """The conversion from one unit to another, prepared."""
    one, other = parse(source), parse(target)
    if one.dimension != other.dimension:
        raise UcumError(source, _not_commensurable(one, other))
    first, second = _line(one), _line(other)
    if first and second:
        return _linear(first[0] / second[0], (first[1] - second[1]) / second[0])
    return _scaled(one, other)


def _not_commensurable(one: Unit, other: Unit) -> str:
    """Says why, and the two causes that are met most often."""
    text = f"'{one.code}' ({one.base}) and '{other.code}' ({other.base}) have different dimensions and cannot be converted (§17)"
    ratio = dict(one.dimension)
    for name, power in other.dimension:
        ratio[name] = ratio.get(name, 0) - power
    left = tuple((name, power) for name, power in sorted(ratio.items()) if power)
    if base_text(left) in ("g", "g-1"):
        text += "; mass and amount of substance are joined by the molar mass, which the unit does not tell"
    elif one.arbitrary or other.arbitrary:
        text += "; arbitrary units are comparable with themselves only (§24)"
    return text


def _line(unit: Unit) -> tuple[Fraction, Fraction] | None:
    """(a, b) where base = a x value + b; None where the scale is not linear."""
    if not unit.special:
        return unit.factor, Fraction(0)
    shift = unit.special.function.shift
    if shift is None:
        return None
    return unit.factor * unit.special.scale, unit.factor * shift


def _linear(slope: Fraction, offset: Fraction) -> Converter:
    """value x slope + offset = (value x n + m) / d with n and m finite decimals and d an integer without the factors 2 and 5."""
    common = math.lcm(slope.denominator, offset.denominator)
    divisor, tens = _without_tens(common)
    factor, summand = (_over(int(part * common), common // divisor, tens) for part in (slope, offset))
    rest = Decimal(divisor)

    def multiplied(value: Decimal) -> Decimal:
        return _EXACT.multiply(value, factor)

    def shifted(value: Decimal) -> Decimal:
        _check_size(value)
        return _EXACT.add(_EXACT.multiply(value, factor), summand)

    def divided(value: Decimal) -> Decimal:
        _check_size(value)
        whole = _EXACT.add(_EXACT.multiply(value, factor), summand)
        if _ROUNDED.plus(whole) != whole:
            length = len(whole.as_tuple().digits)
            quotient = Context(prec=length, Emax=MAX_EMAX, Emin=MIN_EMIN).divide(whole, rest)
            if _EXACT.multiply(quotient, rest) == whole:
                return quotient
        return _ROUNDED.divide(whole, rest)

    if divisor != 1:
        return divided
    return shifted if summand else multiplied


def _without_tens(number: int) -> tuple[int, int]:
    """The part of a number without the factors 2 and 5, and the power of ten that the removed factors divide."""
    counts = []
    for prime in (2, 5):
        count = 0
        while number % prime == 0:
            number //= prime
            count += 1
        counts.append(count)
    return number, max(counts)


def _over(numerator: int, denominator: int, tens: int) -> Decimal:
    """numerator / denominator, of which `denominator` divides 10^tens."""
    digits = Decimal(numerator * 10**tens // denominator)
    return _trimmed(_EXACT.scaleb(digits, -tens))


def _trimmed(number: Decimal) -> Decimal:
    """Without zeros after the point, never with a positive exponent."""
    shorter = _EXACT.normalize(number)
    return _EXACT.quantize(shorter, Decimal(1)) if int(shorter.as_tuple().exponent) > 0 else shorter


def _check_size(value: Decimal) -> None:
    """Adding to numbers that are far apart would fill the memory with zeros."""
    if not -LIMIT < value.adjusted() < LIMIT:
        raise Domain(f"it is beyond 10^±{LIMIT}")


def _scaled(one: Unit, other: Unit) -> Converter:
    """A conversion in which a logarithm, an angle or a root takes part: in 60 digits, given with 34."""

    def converted(value: Decimal) -> Decimal:
        _check_size(value)
        found = _ROUNDED.plus(_from_base(other, _in_base(one, value)))
        if not _ROUNDED.is_normal(found) and found:
            raise Domain("the result is too small")
        return _trimmed(found) if found.adjusted() < DIGITS else found

    return converted


def _in_base(unit: Unit, value: Decimal) -> Decimal:
    if unit.special:
        value = unit.special.function.ratio(WORK.multiply(value, _decimal(unit.special.scale)))
    return WORK.multiply(value, _decimal(unit.factor))


def _from_base(unit: Unit, value: Decimal) -> Decimal:
    value = WORK.divide(value, _decimal(unit.factor))
    if unit.special:
        value = WORK.divide(unit.special.function.value(value), _decimal(unit.special.scale))
    return value


def _decimal(number: Fraction) -> Decimal:
    return WORK.divide(Decimal(number.numerator), Decimal(number.denominator))


@lru_cache(maxsize=4096)
def _to_base(code: str) -> tuple[str, Callable[[Decimal | float], float], bool]:
    """Base units of a code, its conversion to a double in them, and whether the scale runs the other way."""
    unit = parse(code)
    line = _line(unit)
    if line:
        return unit.base, _double(*line, code), False
    decreasing = bool(unit.special and unit.special.function.decreasing)
    pair = _pair(code, unit.base)

    def scaled(value: Decimal | float) -> float:
        number = Decimal(value)
        if number.is_infinite():
            return -float(number) if decreasing else float(number)
        return float(_apply(pair, number, code))

    return unit.base, scaled, decreasing


def _double(slope: Fraction, offset: Fraction, code: str) -> Callable[[Decimal | float], float]:
    """value x slope + offset, exact until the one rounding of an integer division."""
    common = math.lcm(slope.denominator, offset.denominator)
    factor, summand = int(slope * common), int(offset * common)

    def to_double(value: Decimal | float) -> float:
        if isinstance(value, Decimal) and not -LIMIT < value.adjusted() < LIMIT:
            value = 0 if not value or value.adjusted() < 0 else math.copysign(math.inf, value)
        try:
            numerator, denominator = value.as_integer_ratio()
            return (numerator * factor + denominator * summand) / (denominator * common)
        except OverflowError:
            return math.copysign(math.inf, value)
        except ValueError:
            raise UcumError(code, f"{value} is no number that has a unit") from None

    return to_double
