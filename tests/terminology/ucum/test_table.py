"""The table of units against UCUM's own (essence 2.0.1) and against what version 2.2 and the SI changed since.

https://ucum.org/ucum §27-§49; the SI of 2019: https://www.bipm.org/en/publications/si-brochure; CODATA: https://physics.nist.gov/constants
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from fhir_server.terminology.ucum import UcumError, parse
from fhir_server.terminology.ucum.grammar import definition_term, read
from fhir_server.terminology.ucum.table import Atom, table
from tests.terminology.ucum.essence import Essence, Row

# Values that UCUM 2.2 (2024-06-17) changed: the SI's defining constants are exact since 2019, the others are CODATA's recommended ones.
REVISED = {
    "mol": ("6.02214076e23", "1"),  # SI brochure, 2.3.1: exact
    "[h]": ("6.62607015e-34", "J.s"),  # SI brochure: exact
    "[k]": ("1.380649e-23", "J/K"),  # SI brochure: exact
    "[e]": ("1.602176634e-19", "C"),  # SI brochure: exact
    "u": ("1.66053906660e-24", "g"),  # CODATA 2018
    "[m_e]": ("9.1093837139e-28", "g"),  # CODATA 2022
    "[m_p]": ("1.67262192595e-24", "g"),  # CODATA 2022
    "[G]": ("6.67430e-11", "m3.kg-1.s-2"),  # CODATA 2018 and 2022
}
ADDED = {"[NTU]", "[FNU]"}  # turbidity, new in 2.2


@pytest.fixture(scope="module")
def essence(corpus: Path) -> Essence:
    found = Essence.load(corpus / "terminology" / "ucum-essence.xml.gz")
    assert (len(found.prefixes), len(found.bases), len(found.rows)) == (24, 7, 303)
    for code, (value, unit) in REVISED.items():
        found.rows[code].value, found.rows[code].unit = Fraction(value), unit
    return found


def _differences(essence: Essence, told: dict[str, object], ours: dict[str, object]) -> dict[str, tuple[object, object]]:
    return {code: (told[code], ours.get(code)) for code in essence.rows if told[code] != ours.get(code)}


def _atoms(essence: Essence) -> dict[str, Atom]:
    return {code: table().atoms[code] for code in essence.rows}


def test_same_codes(essence: Essence) -> None:
    ours = {code for code, atom in table().atoms.items() if atom.kind != "base"}
    assert ours - set(essence.rows) == ADDED
    assert set(essence.rows) - ours == set()


def test_same_prefixes(essence: Essence) -> None:
    assert table().prefixes == essence.prefixes


def test_same_base_units_all_metric(essence: Essence) -> None:
    bases = {code: atom.metric for code, atom in table().atoms.items() if atom.kind == "base"}
    assert bases == dict.fromkeys(essence.bases, True)


def test_same_metric_flags(essence: Essence) -> None:
    """§11: whether a unit takes prefixes."""
    atoms = _atoms(essence)
    assert not _differences(essence, {c: r.metric for c, r in essence.rows.items()}, {c: a.metric for c, a in atoms.items()})


def test_same_arbitrary_flags(essence: Essence) -> None:
    """§24."""
    atoms = _atoms(essence)
    assert not _differences(essence, {c: r.arbitrary for c, r in essence.rows.items()}, {c: a.arbitrary for c, a in atoms.items()})


def test_same_special_units_and_functions(essence: Essence) -> None:
    """§21: the function by name; '100tan(1 rad)' of slope and prism dioptre is in radians (version 2.2 says so in both places)."""
    atoms = _atoms(essence)
    ours = {c: a.kind if a.special else None for c, a in atoms.items()}
    assert not _differences(essence, {c: r.function for c, r in essence.rows.items()}, ours)


def test_same_definitions(essence: Essence) -> None:
    """Number and unit as UCUM states them (a definition of the revised ones may be in other words)."""
    atoms = _atoms(essence)
    told = {c: (r.value, r.unit) for c, r in essence.rows.items() if c not in REVISED}
    ours = {c: (Fraction(atoms[c].value), atoms[c].definition) for c in told}
    assert {c: (told[c], ours[c]) for c in told if told[c] != ours[c]} == {}


def test_same_factor_and_dimension(essence: Essence) -> None:
    """Every unit in base units, calculated by another algebra; of a special unit, its corresponding proper unit."""
    wrong = {}
    for code, row in essence.rows.items():
        if row.function:
            factor, bases = essence.reduce(row.unit)
            factor *= row.value
        else:
            factor, bases = essence.reduce(code)
        unit = parse(code)
        if (unit.factor, dict(unit.dimension)) != (factor, bases):
            wrong[code] = (factor, bases, unit)
    assert wrong == {}


def test_every_prefix_on_every_metric_unit(essence: Essence) -> None:
    """And on no other: 24 x 303 combinations, apart from those that are another unit's own code (Pa is no peta-year)."""
    metric = essence.bases | {code for code, row in essence.rows.items() if row.metric}
    meanings = {prefix + code: factor for prefix, factor in essence.prefixes.items() for code in metric}
    wrong = []
    for row in essence.rows.values():
        for prefix, factor in essence.prefixes.items():
            symbol = prefix + row.code
            if symbol not in essence.rows and symbol not in essence.bases and (row.metric or symbol not in meanings):
                wrong += [] if _means(symbol, row, factor) else [symbol]
    assert wrong == []


def _means(symbol: str, row: Row, factor: Fraction) -> bool:
    """Whether a metric unit is scaled by its prefix, another one refused."""
    try:
        unit = parse(symbol)
    except UcumError:
        return not row.metric
    if row.function:
        return row.metric and unit.special is not None and unit.special.scale == factor
    return row.metric and unit.factor == factor * parse(row.code).factor


def test_no_symbol_has_two_meanings() -> None:
    """§4 and table 25: no code is at once an atom and a prefix with a metric atom, so the order of looking them up is no matter."""
    known = table()
    metric = {code for code, atom in known.atoms.items() if atom.metric}
    assert [code for code in known.atoms for prefix in known.prefixes if code.startswith(prefix) and code[len(prefix) :] in metric] == []


@pytest.mark.parametrize("code", sorted(REVISED))
def test_constants_of_the_si_of_2019(code: str) -> None:
    value, unit = REVISED[code]
    factor, bases = read(unit)
    assert (parse(code).factor, dict(parse(code).dimension)) == (Fraction(value) * factor, bases)


def test_turbidity_units_are_numbers() -> None:
    """Version 2.2 defines both as 1 and not as arbitrary units."""
    assert parse("[NTU]").dimension == parse("[FNU]").dimension == ()


def test_corresponding_units_of_special_units_are_proper() -> None:
    """§21: u is an element of U."""
    atoms = table().atoms
    for atom in atoms.values():
        if atom.special:
            assert not any(atoms[name].special or atoms[name].arbitrary for name in definition_term(atom).bases), atom.code


def test_every_atom_has_a_name() -> None:
    assert [atom.code for atom in table().atoms.values() if not atom.name] == []
