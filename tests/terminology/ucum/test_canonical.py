"""Canonical base units: what makes a search for 5.4 g find 5400 mg.

https://hl7.org/fhir/R4/search.html#quantity ("a canonical form"); derived units: SI brochure, table 4, in UCUM's base (g instead of kg,
C instead of A; mol a number).
"""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from fhir_server.terminology.ucum import UcumError, canonical, canonical_interval, parse


@pytest.mark.parametrize(
    ("code", "base", "factor"),
    [
        ("N", "g.m.s-2", "1000"),
        ("Pa", "g.m-1.s-2", "1000"),
        ("J", "g.m2.s-2", "1000"),
        ("W", "g.m2.s-3", "1000"),
        ("A", "C.s-1", "1"),
        ("V", "C-1.g.m2.s-2", "1000"),
        ("F", "C2.g-1.m-2.s2", "0.001"),
        ("Ohm", "C-2.g.m2.s-1", "1000"),
        ("S", "C2.g-1.m-2.s", "0.001"),
        ("Wb", "C-1.g.m2.s-1", "1000"),
        ("T", "C-1.g.s-1", "1000"),
        ("H", "C-2.g.m2", "1000"),
        ("lm", "cd.rad2", "1"),
        ("lx", "cd.m-2.rad2", "1"),
        ("Hz", "s-1", "1"),
        ("Bq", "s-1", "1"),
        ("Gy", "m2.s-2", "1"),
        ("L", "m3", "0.001"),
        ("mol", "1", "602214076000000000000000"),
        ("mmol/L", "m-3", "602214076000000000000000"),
        ("kat", "s-1", "602214076000000000000000"),
        ("mm[Hg]", "g.m-1.s-2", "133322"),
        ("%", "1", "0.01"),
        ("1", "1", "1"),
        ("{count}", "1", "1"),
        ("10*", "1", "10"),
        ("10*9/L", "m-3", "1000000000000"),
        ("m[IU]/mL", "[iU].m-3", "1000"),
        ("dB/m", "B.m-1", "0.1"),
        ("[degF]", "K", None),
        ("[pH]", "m-3", None),
    ],
)
def test_base_units(code: str, base: str, factor: str | None) -> None:
    assert parse(code).base == base
    assert canonical(Decimal(1), code)[1] == base
    if factor:
        assert canonical(Decimal(1), code) == (Decimal(factor), base)
    assert parse(base).base == base, "base units are a code themselves"
    assert parse(base).factor == 1


SAME = [
    (("5400", "mg"), ("5.4", "g"), ("0.0054", "kg"), ("5.4", "/m3.L.kg")),
    (("120", "mm[Hg]"), ("12", "cm[Hg]"), ("15998.64", "Pa"), ("159.9864", "mbar")),
    (("98.6", "[degF]"), ("37", "Cel"), ("310.15", "K"), ("558.27", "[degR]")),
    (("1", "[ft_us]"), ("12", "[in_us]"), ("0.0001", "10000.[ft_us]")),
    (("7.0", "mmol/L"), ("7000", "umol/L"), ("7", "mol/m3"), ("7", "meq/L")),
    (("4.5", "10*9/L"), ("4500", "/uL"), ("4500", "{cells}/uL"), ("4.5", "10^3/mm3"), ("4.5", "10*3{WBC}/uL")),
    (("2.5", "m[iU]/mL"), ("2.5", "[IU]/L"), ("2500", "[iU]/m3")),
    (("50", "%"), ("0.5", "1"), ("0.5", "{fraction}"), ("500", "[ppth]"), ("0.05", "10*")),
    (("1", "a"), ("12", "mo"), ("365.25", "d")),
    (("3", "/[HPF]"), ("300", "/[LPF]")),
    (("60", "U/L"), ("1", "ukat/L"), ("1", "umol/s/L")),
]


@pytest.mark.parametrize("quantities", SAME)
def test_equal_quantities_have_equal_canonical_forms(quantities: tuple[tuple[str, str], ...]) -> None:
    forms = {canonical(Decimal(value), code) for value, code in quantities}
    assert len(forms) == 1, forms


@pytest.mark.parametrize("quantities", SAME)
def test_equal_intervals_have_the_same_doubles(quantities: tuple[tuple[str, str], ...]) -> None:
    """To the last bit: the exact product is rounded once."""
    assert len({canonical_interval(Decimal(value), Decimal(value), code) for value, code in quantities}) == 1
    value, code = quantities[0]
    exact, base = canonical(Decimal(value), code)
    assert canonical_interval(Decimal(value), Decimal(value), code) == (float(exact), float(exact), base)


def test_implied_precision_survives_the_unit() -> None:
    """5.4 is [5.35, 5.45): 5400 mg lies in it, 5450 mg does not, 5350 mg does."""
    low, high, base = canonical_interval(Decimal("5.35"), Decimal("5.45"), "g")
    for value, inside in (("5350", True), ("5400", True), ("5449.999", True), ("5450", False), ("5349.999", False)):
        point, _, same = canonical_interval(Decimal(value), Decimal(value), "mg")
        assert same == base
        assert (low <= point < high) is inside, value


def test_open_ends_are_infinite() -> None:
    assert canonical_interval(Decimal(5), None, "mg") == (0.005, math.inf, "g")
    assert canonical_interval(None, Decimal(5), "mg") == (-math.inf, 0.005, "g")
    assert canonical_interval(None, None, "mg") == (-math.inf, math.inf, "g")
    assert canonical_interval(-math.inf, math.inf, "mg") == (-math.inf, math.inf, "g")


def test_scales_that_run_the_other_way_exchange_the_ends() -> None:
    """A pH above 7 is a concentration of protons below 1e-7 mol/L, 6.02214076e19 in a cubic metre."""
    limit = 6.02214076e19
    assert canonical_interval(Decimal(7), None, "[pH]") == (-math.inf, limit, "m-3")
    assert canonical_interval(None, Decimal(7), "[pH]") == (limit, math.inf, "m-3")
    assert canonical_interval(Decimal(7), math.inf, "[pH]") == (-math.inf, limit, "m-3")
    assert canonical_interval(Decimal(6), Decimal(7), "[pH]") == (limit, limit * 10, "m-3")


def test_floats_are_taken_for_what_they_are() -> None:
    assert canonical_interval(36.5, 37.5, "Cel") == (309.65, 310.65, "K")
    assert canonical_interval(0.5, 0.5, "kg") == (500.0, 500.0, "g")


def test_what_no_double_holds() -> None:
    assert canonical_interval(Decimal("-1e400"), Decimal("1e400"), "kg") == (-math.inf, math.inf, "g")
    assert canonical_interval(Decimal("1e-400"), Decimal("1e999999999"), "kg") == (0.0, math.inf, "g")
    assert canonical_interval(Decimal("0e-999999999"), Decimal("1e-999999999"), "Cel") == (273.15, 273.15, "K")
    assert canonical_interval(Decimal("-1e999999999"), Decimal("0e999999999"), "Cel") == (-math.inf, 273.15, "K")
    assert canonical_interval(Decimal("1e-400"), Decimal("1e-400"), "10*100.kg")[0] == pytest.approx(1e-297)


def test_zero_celsius_is_no_zero() -> None:
    assert canonical_interval(Decimal(0), Decimal("0.0"), "Cel") == (273.15, 273.15, "K")
    assert canonical(Decimal(0), "Cel") == (Decimal("273.15"), "K")


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("sNaN"), math.nan])
@pytest.mark.parametrize("code", ["mg", "Cel", "[pH]", "[ft_us]"])
def test_no_number_is_refused(value: Decimal | float, code: str) -> None:
    with pytest.raises(UcumError, match="no number"):
        canonical_interval(value, value, code)


def test_a_wrong_code_is_refused() -> None:
    with pytest.raises(UcumError, match=r"did you mean 'mm\[Hg\]'"):
        canonical(Decimal(120), "mmHg")
    with pytest.raises(UcumError, match=r"did you mean 'mm\[Hg\]'"):
        canonical_interval(Decimal(120), None, "mmHg")
