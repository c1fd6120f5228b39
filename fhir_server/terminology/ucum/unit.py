"""A unit: what a code means, in base units, and the cached way from a code to it.

Specification: https://ucum.org/ucum (semantics: §16-§26)
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from fhir_server.terminology.ucum.errors import UcumError
from fhir_server.terminology.ucum.functions import Function, function
from fhir_server.terminology.ucum.grammar import Term, definition_term, read
from fhir_server.terminology.ucum.table import table

Dimension = tuple[tuple[str, int], ...]
"""Base and exponent, sorted by base; () of a plain number. Equal dimensions are commensurable."""

CACHED = 8192
"""So many codes are kept read, the most recently used ones; right and wrong ones alike."""


class Special(NamedTuple):
    """The scale of a special unit: value r stands for `function`⁻¹(`scale` x r) corresponding proper units (§21, §22)."""

    function: Function
    scale: Fraction


class Unit(NamedTuple):
    """What a code means.

    `dimension`: hashable, equal of all commensurable units. Arbitrary units are bases of their own ('[iU]'), so that they are comparable
    with themselves only. So are special units inside of products ('dB/m'), of which UCUM says nothing (§22).
    `factor`: the unit in base units; of a special unit, its corresponding proper unit in base units.
    `special`: set of special units (Cel, [pH], dB ...), prefixed and multiplied by numbers or not.
    `base`: the product of base units as a UCUM code, '1' of a plain number.
    """

    code: str
    factor: Fraction
    dimension: Dimension
    base: str
    special: Special | None = None

    @property
    def arbitrary(self) -> bool:
        """Whether an arbitrary unit takes part (§25)."""
        atoms = table().atoms
        return any(atoms[name].arbitrary for name, _ in self.dimension)


def parse(code: str) -> Unit:
    """The unit that a case sensitive UCUM code means; from a bounded cache, safe in threads.

    Raises UcumError that names the position, the rule and, where one is near, the code that is probably meant.
    Source: https://ucum.org/ucum, version 2.2.
    """
    found = _outcome(code)
    if found.__class__ is Unit:
        return found  # type: ignore[return-value]
    raise UcumError(*found)  # type: ignore[misc]


@lru_cache(maxsize=CACHED)
def _outcome(code: str) -> Unit | tuple[str, str, int | None, str | None]:
    """The unit, or the arguments of the error: one raised object must not be shared by threads."""
    try:
        return _unit(code, read(code))
    except UcumError as error:
        from fhir_server.terminology.ucum.suggest import suggestion  # what it needs is only loaded for a wrong code

        return code, error.rule, error.position, suggestion(code)


def _unit(code: str, term: Term) -> Unit:
    special = None
    factor, bases = term
    if len(bases) == 1:
        ((name, power),) = bases.items()
        atom = table().atoms[name]
        if power == 1 and atom.special:
            special = Special(function(atom.kind), factor)
            factor, bases = definition_term(atom)
    dimension = tuple(sorted(bases.items()))
    return Unit(code, factor, dimension, base_text(dimension), special)


def base_text(dimension: Dimension) -> str:
    """A dimension as a UCUM code: 'g.m-1.s-2', '1' of a plain number."""
    return ".".join(name if power == 1 else f"{name}{power}" for name, power in dimension) or "1"
