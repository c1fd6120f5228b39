"""UCUM's tables of prefixes and unit atoms, read once from `profiles/ucum/units.tsv` when first needed.

Specification: https://ucum.org/ucum#section-Tables-of-Terminal-Symbols (§27-§49)
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parents[3] / "profiles" / "ucum"

VERSION = "2.2"
"""The UCUM version that the table states."""


class Atom(NamedTuple):
    """A terminal symbol: 1 `code` = `value` x `definition`.

    `kind`: 'base', 'unit', 'arbitrary', or the function of a special unit (§23), which then applies to the measurement
    in `value` x `definition`. `metric`: it takes prefixes (§11). `name`: for people, in this project's words.
    """

    code: str
    kind: str
    metric: bool
    value: str
    definition: str
    name: str

    @property
    def arbitrary(self) -> bool:
        """Defined by a procedure and comparable with itself only (§24)."""
        return self.kind == "arbitrary"

    @property
    def special(self) -> bool:
        """Measured on a scale that is no ratio scale (§21)."""
        return self.kind not in ("base", "unit", "arbitrary")


class Table:
    """`prefixes`: code to factor, longest codes first; `atoms` by code."""

    def __init__(self, prefixes: dict[str, Fraction], atoms: dict[str, Atom]) -> None:
        self.prefixes = dict(sorted(prefixes.items(), key=lambda item: -len(item[0])))
        self.atoms = atoms

    def split(self, symbol: str) -> tuple[str, Atom] | None:
        """A simple unit as prefix ('' if none) and atom: the longest prefix that leaves a metric atom (§4); None where there is none."""
        for prefix in self.prefixes:
            if symbol.startswith(prefix) and (atom := self.atoms.get(symbol[len(prefix) :])) and atom.metric:
                return prefix, atom
        return ("", atom) if (atom := self.atoms.get(symbol)) else None


def rows(name: str) -> list[list[str]]:
    """The rows of a file of `profiles/ucum`, without comments and empty lines."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.split("\n") if line and not line.startswith("# ")]


@lru_cache(maxsize=1)
def table() -> Table:
    """The tables; about a millisecond when first called."""
    prefixes: dict[str, Fraction] = {}
    atoms: dict[str, Atom] = {}
    for kind, code, metric, value, definition, name in rows("units.tsv"):
        if kind == "prefix":
            prefixes[code] = Fraction(value)
        else:
            atoms[code] = Atom(code, kind, metric == "metric", value, definition, name)
    return Table(prefixes, atoms)
