"""UCUM's own table (ucum-essence 2.0.1) with a small algebra of its own: what the project's table and grammar are compared with.

Definitions in it have neither parentheses nor annotations, so splitting at '.' and '/' is enough.
"""

from __future__ import annotations

import gzip
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

_SPACE = "{http://unitsofmeasure.org/ucum-essence}"
_PART = re.compile(r"([./]?)((?:\[[^\]]*\]|[^./\[])+)")
_POWER = re.compile(r"(10[*^]|.*?[^\d+-])([+-]?\d+)?")
_FUNCTION = re.compile(r"(\w+)\((\S+) (\S+)\)")

Reduced = tuple[Fraction, dict[str, int]]


@dataclass
class Row:
    """A unit; `function` is set of special units, `value` and `unit` then are those of the corresponding unit."""

    code: str
    metric: bool
    arbitrary: bool
    value: Fraction
    unit: str
    function: str | None = None


@dataclass
class Essence:
    prefixes: dict[str, Fraction] = field(default_factory=dict)
    bases: set[str] = field(default_factory=set)
    rows: dict[str, Row] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Essence:
        found = cls()
        with gzip.open(path) as file:
            root = ET.parse(file).getroot()
        for element in root:
            code, value = element.get("Code", ""), element.find(f"{_SPACE}value")
            if element.tag == f"{_SPACE}base-unit":
                found.bases.add(code)
            elif value is None:
                raise AssertionError(f"{code} without value")
            elif element.tag == f"{_SPACE}prefix":
                found.prefixes[code] = Fraction(value.get("value", ""))
            else:
                number, unit, function = value.get("value", ""), value.get("Unit", ""), None
                if element.get("isSpecial") == "yes":
                    special = _FUNCTION.fullmatch(unit)
                    assert special, unit
                    function, number, unit = special.groups()
                found.rows[code] = Row(
                    code, element.get("isMetric") == "yes", element.get("isArbitrary") == "yes", Fraction(number), unit, function
                )
        return found

    def reduce(self, code: str) -> Reduced:
        """A code without parentheses in base units."""
        factor, powers = Fraction(1), dict[str, int]()
        for operator, part in _PART.findall(code):
            sign = -1 if operator == "/" else 1
            if part.isdigit():
                factor *= Fraction(part) ** sign
                continue
            found = _POWER.fullmatch(part)
            assert found, part
            power = sign * int(found[2] or 1)
            inner, bases = self._atom(found[1])
            factor *= inner**power
            for name, exponent in bases.items():
                powers[name] = powers.get(name, 0) + exponent * power
        return factor, {name: power for name, power in powers.items() if power}

    def _atom(self, symbol: str) -> Reduced:
        if symbol in self.bases:
            return Fraction(1), {symbol: 1}
        if symbol in self.rows:
            row = self.rows[symbol]
            if row.arbitrary and row.unit == "1":
                return Fraction(1), {symbol: 1}
            factor, bases = self.reduce(row.unit)
            return row.value * factor, bases
        prefix = next(p for p in self.prefixes if symbol.startswith(p) and self._metric(symbol[len(p) :]))
        factor, bases = self._atom(symbol[len(prefix) :])
        return self.prefixes[prefix] * factor, bases

    def _metric(self, symbol: str) -> bool:
        return symbol in self.bases or (symbol in self.rows and self.rows[symbol].metric)
