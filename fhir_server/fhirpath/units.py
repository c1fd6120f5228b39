"""Units of measure: a UCUM expression as a factor and dimensions, for comparing and calculating with quantities.

A small own table of the units that clinical data uses; `reduce_unit` is the seam for a complete one.
Specification: https://ucum.org/ucum (grammar §5-§14, tables §24-§46)
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

MAX_LENGTH = 200
"""Longest unit expression that is read, in characters."""


class Reduced(NamedTuple):
    """A unit in base units: value in base = value x factor + offset; `dimensions`: sorted (base unit, exponent) pairs."""

    factor: Fraction
    dimensions: tuple[tuple[str, int], ...]
    offset: Fraction = Fraction(0)


_PREFIXES = {
    "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1,
    "d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24,
}  # fmt: skip
_BASES = ("m", "s", "g", "rad", "K", "C", "cd")
# Metric units (take prefixes): factor and the unit that it counts.
_METRIC = {
    "mol": ("6.0221367e23", "1"), "sr": ("1", "rad2"), "Hz": ("1", "s-1"), "N": ("1", "kg.m/s2"), "Pa": ("1", "N/m2"), "J": ("1", "N.m"),
    "W": ("1", "J/s"), "A": ("1", "C/s"), "V": ("1", "J/C"), "F": ("1", "C/V"), "Ohm": ("1", "V/A"), "S": ("1", "Ohm-1"),
    "Wb": ("1", "V.s"), "T": ("1", "Wb/m2"), "H": ("1", "Wb/A"), "lm": ("1", "cd.sr"), "lx": ("1", "lm/m2"), "Bq": ("1", "s-1"),
    "Gy": ("1", "J/kg"), "Sv": ("1", "J/kg"), "L": ("1", "dm3"), "l": ("1", "dm3"), "ar": ("100", "m2"), "t": ("1000", "kg"),
    "bar": ("1e5", "Pa"), "u": ("1.6605402e-24", "g"), "eV": ("1.60217733e-19", "J"), "cal": ("4.184", "J"), "eq": ("1", "mol"),
    "osm": ("1", "mol"), "kat": ("1", "mol/s"), "U": ("1", "umol/min"), "m[H2O]": ("9.80665", "kPa"), "m[Hg]": ("133.322", "kPa"),
    "dyn": ("1", "g.cm/s2"), "erg": ("1", "dyn.cm"), "P": ("1", "dyn.s/cm2"), "R": ("2.58e-4", "C/kg"), "RAD": ("100", "erg/g"),
    "REM": ("1", "RAD"), "Ci": ("3.7e10", "Bq"), "g%": ("1", "g/dL"), "bit": ("1", "{bit}"), "By": ("8", "{bit}"),
}  # fmt: skip
_OTHER = {
    "10*": ("10", "1"), "10^": ("10", "1"), "[pi]": ("3.1415926535897932384626433832795028841971693993751058209749445923", "1"),
    "%": ("0.01", "1"), "[ppth]": ("1e-3", "1"), "[ppm]": ("1e-6", "1"), "[ppb]": ("1e-9", "1"), "[pptr]": ("1e-12", "1"),
    "min": ("60", "s"), "h": ("60", "min"), "d": ("24", "h"), "wk": ("7", "d"), "a_j": ("365.25", "d"), "a_t": ("365.24219", "d"),
    "a_g": ("365.2425", "d"), "a": ("365.25", "d"), "mo": ("30.4375", "d"), "mo_j": ("30.4375", "d"), "mo_s": ("29.53059", "d"),
    "deg": ("2", "[pi].rad/360"), "'": ("1/60", "deg"), "''": ("1/3600", "deg"), "gon": ("0.9", "deg"),
    "[in_i]": ("2.54", "cm"), "[ft_i]": ("12", "[in_i]"), "[yd_i]": ("3", "[ft_i]"), "[mi_i]": ("5280", "[ft_i]"),
    "[nmi_i]": ("1852", "m"), "[sin_i]": ("1", "[in_i]2"), "[cin_i]": ("1", "[in_i]3"), "[kn_i]": ("1", "[nmi_i]/h"),
    "[gal_us]": ("231", "[in_i]3"), "[qt_us]": ("1/4", "[gal_us]"), "[pt_us]": ("1/2", "[qt_us]"), "[foz_us]": ("1/16", "[pt_us]"),
    "[cup_us]": ("16", "[tbs_us]"), "[tbs_us]": ("1/2", "[foz_us]"), "[tsp_us]": ("1/3", "[tbs_us]"), "[foz_m]": ("30", "mL"),
    "[cup_m]": ("240", "mL"), "[tsp_m]": ("5", "mL"), "[tbs_m]": ("15", "mL"), "[drp]": ("1/20", "mL"),
    "[gr]": ("64.79891", "mg"), "[lb_av]": ("7000", "[gr]"), "[oz_av]": ("1/16", "[lb_av]"), "[stone_av]": ("14", "[lb_av]"),
    "[lb_tr]": ("12", "[oz_tr]"), "[oz_tr]": ("480", "[gr]"), "[g]": ("9.80665", "m/s2"), "[lbf_av]": ("1", "[lb_av].[g]"),
    "[psi]": ("1", "[lbf_av]/[in_i]2"), "atm": ("101325", "Pa"), "[in_i'Hg]": ("1", "m[Hg].[in_i]/m"),
    "[in_i'H2O]": ("1", "m[H2O].[in_i]/m"), "[Cal]": ("1", "kcal"), "cal_th": ("4.184", "J"), "[HP]": ("550", "[ft_i].[lbf_av]/s"),
    "[degR]": ("5/9", "K"), "[diop]": ("1", "/m"), "[MET]": ("3.5", "mL/min/kg"), "[car_m]": ("0.2", "g"), "[hpf]": ("1", "{field}"),
    "[lpf]": ("100", "{field}"),
}  # fmt: skip
# Units that are defined by a procedure: each its own dimension, comparable with itself only.
_ARBITRARY = frozenset((
    "[iU]", "[IU]", "[arb'U]", "[USP'U]", "[GPL'U]", "[MPL'U]", "[APL'U]", "[beth'U]", "[anti'Xa'U]", "[todd'U]", "[dye'U]", "[smgy'U]",
    "[bdsk'U]", "[ka'U]", "[knk'U]", "[mclg'U]", "[tb'U]", "[CCID_50]", "[TCID_50]", "[EID_50]", "[PFU]", "[FFU]", "[CFU]", "[IR]",
    "[BAU]", "[AU]", "[Amb'a'1'U]", "[PNU]", "[Lf]", "[D'ag'U]", "[FEU]", "[ELU]", "[EU]", "[pH]", "pH", "[p'diop]", "[degRe]", "B",
    "Np", "B[SPL]", "B[V]", "[hnsf'U]", "[MesH]", "[Ch]", "[hd_i]",
))  # fmt: skip
_METRIC_ARBITRARY = frozenset(("[iU]", "[IU]", "B", "Np", "[CFU]"))
_TEMPERATURES = {"Cel": (Fraction(1), Fraction("273.15")), "[degF]": (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9))}
_TOKEN = re.compile(
    r"""
    (?P<note>\{[\x21-\x7a|~]*\})
  | (?P<symbol>[./()])
  | (?P<unit>(?:10[*^])|(?:[^\s./(){}\d\[\]+-]|\[[^\s\[\]]*\]|_\d+)+)
  | (?P<number>[+-]?\d+)
    """,
    re.X,
)


class _NoUnit(Exception):
    pass


@lru_cache(maxsize=4096)
def reduce_unit(code: str) -> Reduced | None:
    """A UCUM code in base units; None where it is no UCUM or a unit that is not known here."""
    if not code or len(code) > MAX_LENGTH:
        return None
    try:
        if code in _TEMPERATURES:
            factor, offset = _TEMPERATURES[code]
            return Reduced(factor, (("K", 1),), offset)
        factor, dimensions = _Reader(code).whole()
    except (_NoUnit, ValueError, OverflowError, ZeroDivisionError):
        return None
    return Reduced(factor, tuple(sorted((name, power) for name, power in dimensions.items() if power)))


def unit_text(dimensions: tuple[tuple[str, int], ...]) -> str:
    """Base units as a UCUM code ('g.m-1'; '1' of a plain number)."""
    return ".".join(name if power == 1 else f"{name}{power}" for name, power in dimensions) or "1"


_Part = tuple[Fraction, dict[str, int]]


class _Reader:
    """Recursive descent over one unit expression."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if not found:
                raise _NoUnit(text)
            self._tokens.append((str(found.lastgroup), found[0]))
            at = found.end()
        self._at = 0
        self._depth = 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def whole(self) -> _Part:
        found = self._term()
        if self._peek()[0] != "end":
            raise _NoUnit
        return found

    def _term(self) -> _Part:
        self._depth += 1
        if self._depth > 10:
            raise _NoUnit
        sign = 1
        if self._peek() == ("symbol", "/"):
            self._at += 1
            sign = -1
        factor, dimensions = _times((Fraction(1), {}), self._component(), sign)
        while self._peek() in (("symbol", "."), ("symbol", "/")):
            sign = 1 if self._peek()[1] == "." else -1
            self._at += 1
            factor, dimensions = _times((factor, dimensions), self._component(), sign)
        self._depth -= 1
        return factor, dimensions

    def _component(self) -> _Part:
        kind, text = self._peek()
        self._at += 1
        if kind == "symbol" and text == "(":
            found = self._term()
            if self._peek() != ("symbol", ")"):
                raise _NoUnit
            self._at += 1
        elif kind == "number":
            found = (Fraction(int(text)), {})
        elif kind == "note":
            return Fraction(1), {}
        elif kind == "unit":
            found = self._unit(text)
        else:
            raise _NoUnit
        if self._peek()[0] == "note":
            self._at += 1
        return found

    def _unit(self, text: str) -> _Part:
        power = 1
        kind, number = self._peek()
        if kind == "number":
            power = int(number)
            if abs(power) > 30:
                raise _NoUnit
            self._at += 1
        factor, dimensions = _atom(text)
        return factor**power, {name: exponent * power for name, exponent in dimensions.items()}


def _times(left: _Part, right: _Part, sign: int) -> _Part:
    dimensions = dict(left[1])
    for name, power in right[1].items():
        dimensions[name] = dimensions.get(name, 0) + sign * power
    return left[0] * right[0] if sign > 0 else left[0] / right[0], dimensions


@lru_cache(maxsize=1024)
def _atom(text: str) -> _Part:
    found = _plain(text, metric=False)
    if found:
        return found
    for length in (2, 1):
        prefix, rest = text[:length], text[length:]
        if prefix in _PREFIXES and rest and (found := _plain(rest, metric=True)):
            return found[0] * Fraction(10) ** _PREFIXES[prefix], found[1]
    raise _NoUnit(text)


def _plain(text: str, *, metric: bool) -> _Part | None:
    if text in _BASES:
        return Fraction(1), {text: 1}
    definition = _METRIC.get(text) or (None if metric else _OTHER.get(text))
    if definition:
        number, unit = definition
        factor, dimensions = (Fraction(1), {unit: 1}) if unit in ("{bit}", "{field}") else _Reader(unit).whole()
        return Fraction(number) * factor, dimensions
    if text in _METRIC_ARBITRARY or (not metric and text in _ARBITRARY):
        return Fraction(1), {"[iU]" if text == "[IU]" else text: 1}
    return None
