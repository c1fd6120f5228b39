"""The statistics of Observation/$stats, calculated exactly in fractions and rounded once at the end.

The measurements are a sample: variance and deviation divide by N - 1, skew and kurtosis are the adjusted ones (G1, and G2 as excess over
the normal distribution's). Percentiles, quartiles and quintiles interpolate between neighbours with both ends included (method 7 of
Hyndman and Fan, The American Statistician 50:361, 1996). These are the definitions of the common spreadsheets and of R.
Specification: http://terminology.hl7.org/CodeSystem/observation-statistics, https://hl7.org/fhir/R4/valueset-observation-statistics.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Context, Decimal, localcontext
from fractions import Fraction

DIGITS = 15
"""Significant digits of a result that has no shorter exact form."""
Number = Fraction | Decimal


def average(values: Sequence[Fraction]) -> Fraction | None:
    """The arithmetic mean; None of nothing."""
    return sum(values, Fraction()) / len(values) if values else None


def _moment(values: Sequence[Fraction], power: int) -> Fraction:
    mean = sum(values, Fraction()) / len(values)
    return sum(((value - mean) ** power for value in values), Fraction())


def variance(values: Sequence[Fraction]) -> Fraction | None:
    """Of a sample; None of fewer than two."""
    return _moment(values, 2) / (len(values) - 1) if len(values) > 1 else None


def _root(value: Fraction) -> Decimal:
    with localcontext(Context(prec=50)):
        return (Decimal(value.numerator) / Decimal(value.denominator)).sqrt()


def deviation(values: Sequence[Fraction]) -> Decimal | None:
    """The standard deviation of a sample."""
    found = variance(values)
    return None if found is None else _root(found)


def quantile(values: Sequence[Fraction], part: Fraction) -> Fraction | None:
    """The value below which `part` (0 to 1) of the values lie, interpolated."""
    if not values:
        return None
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def quartile_deviation(values: Sequence[Fraction]) -> Fraction | None:
    """Half the distance of the quartiles."""
    lower, upper = quantile(values, Fraction(1, 4)), quantile(values, Fraction(3, 4))
    return (upper - lower) / 2 if lower is not None and upper is not None else None


def skew(values: Sequence[Fraction]) -> Decimal | None:
    """Adjusted Fisher-Pearson skewness; None of fewer than three, or where all are equal."""
    count, spread = len(values), variance(values)
    if count < 3 or not spread:
        return None
    factor = Fraction(count, (count - 1) * (count - 2)) * _moment(values, 3) / spread
    with localcontext(Context(prec=50)):
        return Decimal(factor.numerator) / Decimal(factor.denominator) / _root(spread)


def kurtosis(values: Sequence[Fraction]) -> Fraction | None:
    """Excess kurtosis of a sample; None of fewer than four, or where all are equal."""
    count, spread = len(values), variance(values)
    if count < 4 or not spread:
        return None
    factor = Fraction(count * (count + 1), (count - 1) * (count - 2) * (count - 3))
    return factor * _moment(values, 4) / spread**2 - Fraction(3 * (count - 1) ** 2, (count - 2) * (count - 3))


def regression(times: Sequence[Fraction], values: Sequence[Fraction]) -> tuple[Fraction, Fraction] | None:
    """Least squares: (gradient per unit of time, value at time 0); None where there are not two different times."""
    if len(set(times)) < 2:
        return None
    middle, mean = sum(times, Fraction()) / len(times), sum(values, Fraction()) / len(values)
    spread = sum(((time - middle) ** 2 for time in times), Fraction())
    gradient = sum(((time - middle) * (value - mean) for time, value in zip(times, values, strict=True)), Fraction()) / spread
    return gradient, mean - gradient * middle


def _part(numerator: int, denominator: int) -> Callable[[Sequence[Fraction]], Number | None]:
    return lambda values: quantile(values, Fraction(numerator, denominator))


def _total(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction())


OF_VALUES: dict[str, Callable[[Sequence[Fraction]], Number | None]] = {
    "average": average,
    "maximum": lambda values: max(values, default=None),
    "minimum": lambda values: min(values, default=None),
    "median": _part(1, 2),
    "std-dev": deviation,
    "sum": _total,
    "variance": variance,
    "20-percent": _part(1, 5),
    "80-percent": _part(4, 5),
    "4-lower": _part(1, 4),
    "4-upper": _part(3, 4),
    "4-dev": quartile_deviation,
    "5-1": _part(1, 5),
    "5-2": _part(2, 5),
    "5-3": _part(3, 5),
    "5-4": _part(4, 5),
    "skew": skew,
    "kurtosis": kurtosis,
}
"""Code → function of the values; None where the statistic is not defined. `count`, `total-count` and `regression` need more than values."""
CODES = (*OF_VALUES, "count", "total-count", "regression")
UNITLESS = frozenset({"skew", "kurtosis", "count", "total-count"})


def rounded(value: Number) -> Decimal:
    """Exact where that takes at most DIGITS significant digits, else rounded to them."""
    with localcontext(Context(prec=DIGITS)):
        found = Decimal(value.numerator) / Decimal(value.denominator) if isinstance(value, Fraction) else +value
        if found and isinstance(value, Decimal):
            found = found.normalize()
        return Decimal(format(found.normalize(), "f")) if found else Decimal(0)
