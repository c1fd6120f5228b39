"""The function pairs of special units: from a value on their scale to the ratio that it stands for, and back.

r = f(m/u) makes the value r on the scale of a measurement m with the corresponding proper unit u, m = f⁻¹(r) x u the reverse.
Specification: https://ucum.org/ucum §21-§23; the pairs: §30 (cel), §43 (degf, degre), §44 (hp, 100tan), §45 (pH), §46 (ln, lg, 2lg),
§47 (sqrt), §48 (ld)
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow, Underflow
from fractions import Fraction
from functools import lru_cache

WORK = Context(prec=60, traps=[InvalidOperation, DivisionByZero, Overflow, Underflow])
"""Precision in which logarithms, powers and angles are calculated; results are given with 34 digits."""
PI = Decimal("3.1415926535897932384626433832795028841971693993751058209749445923")
LIMIT = 6000
"""Largest decimal exponent of a ratio that a scale can stand for: 10^±6000."""

# Operators (-x, abs(x), x * y) would round to the precision of the calling thread's context: WORK's methods are used throughout.
_LIMIT_LN = Decimal(LIMIT * 2302585) / 10**6
_TINY = Decimal("1e-70")
_NEAR = Decimal("1e-50")


class Domain(Exception):
    """The value has no meaning on this scale; the text says why."""


class Function:
    """A pair of functions. `shift`: set where the pair is r = m/u - shift (temperatures), which is calculated exactly.

    `decreasing`: a larger value stands for a smaller measurement. `ratio` is f⁻¹, `value` is f; both raise Domain.
    """

    __slots__ = ("decreasing", "name", "ratio", "shift", "value")

    def __init__(
        self,
        name: str,
        ratio: Callable[[Decimal], Decimal],
        value: Callable[[Decimal], Decimal],
        shift: Fraction | None = None,
        decreasing: bool = False,
    ) -> None:
        self.name, self.ratio, self.value, self.shift, self.decreasing = name, ratio, value, shift, decreasing


def _shifted(name: str, shift: str) -> Function:
    by = Decimal(shift)
    return Function(name, lambda value: WORK.add(value, by), lambda ratio: WORK.subtract(ratio, by), Fraction(shift))


def _logarithm(name: str, base: int | None, times: int = 1) -> Function:
    """times x logarithm to `base` (None: e; negative `times`: the logarithm's opposite)."""
    ln_base = Decimal(1) if base is None else WORK.ln(Decimal(base))

    def ratio(value: Decimal) -> Decimal:
        exponent = WORK.divide(value, Decimal(times))
        if WORK.multiply(exponent, ln_base).copy_abs() > _LIMIT_LN:
            raise Domain(f"it stands for a number beyond 10^±{LIMIT}")
        return WORK.exp(exponent) if base is None else WORK.power(Decimal(base), exponent)

    def value(ratio: Decimal) -> Decimal:
        if ratio <= 0:
            raise Domain("only positive values have a logarithm")
        logarithm = WORK.log10(ratio) if base == 10 else WORK.divide(WORK.ln(ratio), ln_base)
        return WORK.multiply(logarithm, Decimal(times))

    return Function(name, ratio, value, decreasing=times < 0)


def _root_value(ratio: Decimal) -> Decimal:
    if ratio < 0:
        raise Domain("only positive values have a square root")
    return WORK.sqrt(ratio)


def _slope_value(angle: Decimal) -> Decimal:
    """tan(angle) x 100, by the series of sine and cosine; `angle` in radians."""
    if WORK.add(WORK.multiply(angle.copy_abs(), Decimal(2)), _NEAR) >= PI:
        raise Domain("a slope is an angle between -90 and 90 degrees")
    opposite = WORK.multiply(angle, angle).copy_negate()
    sine = cosine = Decimal(0)
    term, step = Decimal(1), 0
    while term.copy_abs() > _TINY:
        cosine = WORK.add(cosine, term)
        odd = WORK.divide(WORK.multiply(term, angle), Decimal(step + 1))
        sine = WORK.add(sine, odd)
        step += 2
        term = WORK.divide(WORK.multiply(term, opposite), Decimal(step * (step - 1)))
    return WORK.divide(WORK.multiply(sine, Decimal(100)), cosine)


def _slope_ratio(value: Decimal) -> Decimal:
    """arctan(value / 100) in radians: the argument is made small by three half angles, then the series."""
    tangent = WORK.divide(value, Decimal(100))
    for _ in range(3):
        root = WORK.sqrt(WORK.add(Decimal(1), WORK.multiply(tangent, tangent)))
        tangent = WORK.divide(tangent, WORK.add(Decimal(1), root))
    opposite = WORK.multiply(tangent, tangent).copy_negate()
    total, power, step = Decimal(0), tangent, 1
    while power.copy_abs() > _TINY:
        total = WORK.add(total, WORK.divide(power, Decimal(step)))
        power = WORK.multiply(power, opposite)
        step += 2
    return WORK.multiply(total, Decimal(8))


_TEMPERATURES = {"cel": "273.15", "degf": "459.67", "degre": "218.52"}
_LOGARITHMS = {"ln": (None, 1), "lg": (10, 1), "2lg": (10, 2), "ld": (2, 1), "pH": (10, -1)} | {
    "hpX": (10, -1), "hpC": (100, -1), "hpM": (1000, -1), "hpQ": (50000, -1),
}  # fmt: skip


@lru_cache(maxsize=32)
def function(name: str) -> Function:
    """The pair that `profiles/ucum/units.tsv` names as a kind. Raises KeyError where there is none."""
    if name in _TEMPERATURES:
        return _shifted(name, _TEMPERATURES[name])
    if name == "100tan":
        return Function(name, _slope_ratio, _slope_value)
    if name == "sqrt":
        return Function(name, lambda value: WORK.multiply(value, value), _root_value)
    return _logarithm(name, *_LOGARITHMS[name])
