"""Conversion, with factors from published tables; what can be compared with what.

NIST SP 811 (2008), appendix B: https://www.nist.gov/pml/special-publication-811; SI brochure; UCUM's text and functional tests;
the quantities of HL7's FHIRPath suite. Scales: https://ucum.org/ucum §21-§23 and the notes on §30, §43-§48.
"""

from __future__ import annotations

import re
import tarfile
from decimal import Context, Decimal
from pathlib import Path

import pytest

from fhir_server.terminology.ucum import UcumError, comparable, convert

EXACT = """
    1 [in_i] 2.54 cm;  1 [ft_i] 30.48 cm;  1 [yd_i] 0.9144 m;  1 [mi_i] 1.609344 km;  1 [nmi_i] 1852 m;  5280 [ft_i] 1 [mi_i]
    1 [lb_av] 453.59237 g;  1 [oz_av] 28.349523125 g;  1 [gr] 64.79891 mg;  1 [stone_av] 6.35029318 kg;  1 [oz_tr] 31.1034768 g
    1 [ston_av] 907.18474 kg;  1 [lton_av] 1016.0469088 kg;  1 t 1000 kg;  1 [car_m] 200 mg
    1 [gal_us] 3.785411784 L;  1 [foz_us] 29.5735295625 mL;  1 [qt_us] 946.352946 mL;  1 [pt_us] 473.176473 mL;  1 [cup_us] 236.5882365 mL
    1 [tbs_us] 14.78676478125 mL;  1 [tsp_us] 4.92892159375 mL;  1 [gal_br] 4.54609 L;  1 [foz_br] 28.4130625 mL;  1 [bbl_us] 42 [gal_us]
    1 atm 101.325 kPa;  1 bar 100 kPa;  1 [lbf_av] 4.4482216152605 N;  1 gf 9.80665 mN;  1 dyn 0.00001 N;  1 P 0.1 Pa.s;  1 erg 1e-7 J
    1 mm[Hg] 0.133322 kPa;  1 cm[H2O] 98.0665 Pa;  120 mm[Hg] 15.99864 kPa
    1 cal_th 4.184 J;  1 cal_IT 4.1868 J;  1 [Btu_IT] 1.05505585262 kJ
    1 kcal 4.184 kJ;  1 [HP] 745.69987158227022 W;  1 Ci 37 GBq;  1 RAD 10 mGy;  1 REM 10 mSv;  1 R 258 uC/kg
    1 eV 1.602176634e-19 J;  1 [ly] 9460730472580800 m
    1 a 365.25 d;  1 mo 30.4375 d;  12 mo 1 a;  1 wk 168 h;  1 d 86400 s;  90 min 1.5 h;  250 ms 0.25 s;  7 d 1 wk
    60 U 1 ukat;  1 mg% 1 mg/dL;  1 /[LPF] 0.01 /[HPF];  1 mol 602214076000000000000000 1;  3 [Ch] 1 mm;  20 [drp] 1 mL;  1 By 8 bit
    3937 [ft_us] 1200 m;  1 [mi_us] 5280 [ft_us];  1 circ 360 deg;  90 deg 100 gon;  1 deg 3600 '';  180 deg 1 [pi].rad;  1 sph 4 [pi].sr
    1 [den] 1 /9.g/km;  1 KiBy 8192 bit;  50 % 0.5 1;  1 [ppm] 0.0001 %
    12.5 g/dL 125 g/L;  4.5 10*9/L 4.5 10*3/uL;  4.5 10*12/L 4.5 10*6/mm3;  88.4 umol/L 0.0884 mmol/L;  5400 mg 5.4 g
    1 cm3 1 mL;  1 fL 1 um3
    60 mL/min 3.6 L/h;  70 kg/m2 7 g/cm2;  140 meq/L 140 mmol/L;  290 mosm/kg 0.29 osm/kg;  2 m[IU]/mL 2 [iU]/L;  10 ug/kg/min 0.6 mg/kg/h
    6.3 s.mm-2 6300000 s.m-2;  6.30 4.s/m 25.2 s/m;  6.3 s/4/m 1.575 s/m;  6.3 [in_i] 16.002 cm;  6.3 g.m.s-2.A-2 6.3 g.m.C-2
    1 S 0.001 g-1.m-2.C2.s;  1 m[Hg] 133322000 g.s-2.m-1;  6.3 s/m/mg 6300 s.m-1.g-1
"""


def _rows(text: str) -> list[tuple[str, ...]]:
    return [tuple(row.split()) for row in re.split(r"[;\n]", text) if row.strip()]


@pytest.mark.parametrize(("value", "source", "expected", "target"), _rows(EXACT))
def test_finite_results_are_exact(value: str, source: str, expected: str, target: str) -> None:
    assert convert(Decimal(value), source, target) == Decimal(expected)
    assert convert(Decimal(expected), target, source) == Decimal(value)


NOT_FINITE = """
    1 [ft_us] 0.304800609601219202438404876809754 m;  1 [psi] 6894.757293168361336722673445346890693781 Pa
    1 [kn_i] 0.514444444444444444 m/s;  1 U 16.6666666666666666667 nkat;  1 m/s 3.28083989501312 [ft_i]/s
    1 rad 57.29577951308232087679815 deg;  1 deg 0.0174532925199432957692 rad;  1 [mu_0] 0.00125663706143591729538506 g.m.C-2
    1 1/[ly] 1.05700083402461546370946e-18 cm-1;  1 [lb_av]/h 0.000125997880555555555555556 kg/s;  1 [acr_us] 4046.87260987425 m2
    1 kg 2.20462262184878 [lb_av];  1 m 39.3700787401575 [in_i];  1 a_g 0.99997946611909650924 a;  1 atm 760.0021 mm[Hg]
"""


@pytest.mark.parametrize(("value", "source", "expected", "target"), _rows(NOT_FINITE))
def test_other_results_are_rounded_to_34_digits(value: str, source: str, expected: str, target: str) -> None:
    """Compared in the digits that the table gives, or 34."""
    result = convert(Decimal(value), source, target)
    digits = min(34, len(Decimal(expected).as_tuple().digits))
    assert Context(prec=digits).plus(result) == Context(prec=digits).plus(Decimal(expected))
    assert len(result.as_tuple().digits) >= 28


SCALES = """
    98.6 [degF] 37 Cel;  -40 [degF] -40 Cel;  32 [degF] 0 Cel;  212 [degF] 100 Cel;  0 Cel 273.15 K;  -273.15 Cel 0 K;  -459.67 [degF] 0 K
    38.5 Cel 101.3 [degF];  36.6 Cel 309.75 K;  80 [degRe] 100 Cel;  37000 mCel 37 Cel;  671.67 [degR] 100 Cel;  0 K -218.52 [degRe]
    7 [pH] 1e-7 mol/L;  7 [pH] 0.1 umol/L;  0 [pH] 1 mol/L;  3 [hp'_X] 0.001 1;  2 [hp'_C] 0.0001 1;  2 [hp'_M] 1e-6 1;  1 [hp'_Q] 0.00002 1
    20 dB 100 1;  1 B 10 1;  10 dB 1000 %;  0 dB[SPL] 20 uPa;  120 dB[SPL] 20 Pa;  20 dB[V] 10 V;  20 dB[mV] 10 mV;  20 dB[uV] 10 uV
    2 B[10.nV] 100 nV;  30 dB[W] 1 kW;  30 dB[W] 0 B[kW];  0 Np 1 1;  8 bit_s 256 1;  0.5 bit_s 0.05 10.bit_s
    100 %[slope] 45 deg;  0 %[slope] 0 deg;  100 [p'diop] 100 %[slope];  3 [m/s2/Hz^(1/2)] 9 m2/s3
"""


@pytest.mark.parametrize(("value", "source", "expected", "target"), _rows(SCALES))
def test_scales(value: str, source: str, expected: str, target: str) -> None:
    """Temperatures are exact; logarithms, roots and angles are where the result is finite."""
    assert convert(Decimal(value), source, target) == Decimal(expected)
    assert convert(Decimal(expected), target, source) == Decimal(value)


IRRATIONAL = """
    1 Np 2.718281828459045235360287471352662 1;  2 1 0.3010299956639811952137388947244930 B;  94 dB[SPL] 1.0023744672545445700 Pa
    1 B[V] 3.162277660168379331998893544432719 V;  30 deg 57.73502691896257645091487805019575 %[slope];  1 [p'diop] 0.5729386976834859 deg
    10 1 3.321928094887362347870319429489390 bit_s;  1 B 2.302585092994045684017991454684364 Np;  -100 %[slope] -45 deg
    2 m2/s3 1.414213562373095048801688724209698 [m/s2/Hz^(1/2)];  7.4 [pH] 39.81071705534972507702523050877520 nmol/L
    7.4 [pH] 23975 /pL
"""


@pytest.mark.parametrize(("value", "source", "expected", "target"), _rows(IRRATIONAL))
def test_irrational_results(value: str, source: str, expected: str, target: str) -> None:
    """e, lg 2, ln 10, ld 10, √2, √10, 100/√3; pH 7.4 is 'approximately 23975 protons per picoliter' (UCUM, note on §45)."""
    digits = len(Decimal(expected).as_tuple().digits)
    assert Context(prec=digits).plus(convert(Decimal(value), source, target)) == Decimal(expected)


@pytest.mark.parametrize(
    ("value", "source", "target"),
    [
        ("0", "mol/L", "[pH]"),
        ("-1", "1", "dB"),
        ("0", "Pa", "B[SPL]"),
        ("-1", "m2/s3", "[m/s2/Hz^(1/2)]"),
        ("90", "deg", "%[slope]"),
        ("100", "deg", "[p'diop]"),
        ("7000", "[pH]", "mol/L"),
        ("-1e9", "[pH]", "mol/L"),
        ("1e12", "bit_s", "1"),
        ("NaN", "g", "mg"),
        ("sNaN", "g", "mg"),
        ("Infinity", "g", "mg"),
        ("1e7000", "Cel", "K"),
        ("0e-999999", "Cel", "K"),
        ("1e999999999", "[ft_us]", "m"),
    ],
)
def test_values_outside_a_scale_are_refused(value: str, source: str, target: str) -> None:
    with pytest.raises(UcumError) as caught:
        convert(Decimal(value), source, target)
    assert caught.value.code == source
    assert caught.value.position is None


COMPARABLE = """
    mg g;  mm[Hg] kPa;  Cel K;  Cel [degF];  [degRe] [degR];  % 1;  {count} %;  10*3 {RBC};  /[HPF] /[LPF];  a d;  wk ms;  eq mol;  osm mol
    L cm3;  mL/min/{1.73_m2} L/h;  kg/m2 g/cm2;  Gy Sv;  m[IU]/mL [iU]/L;  [CFU]/mL [CFU]/L;  10*9/L /uL;  meq/L mmol/L;  cal J;  dB/cm B/m
    mmol/L /L;  U/L kat/L;  Hz Bq;  [pH] mol/L;  dB 1;  dB Np;  [p'diop] deg;  bit 1;  [hnsf'U] 1
"""
DIFFERENT = """
    mg mL;  mg/dL mmol/L;  g mol;  U/L [iU]/L;  U [iU];  [iU] g;  [iU] [arb'U];  [arb'U] 1;  [USP'U] [iU];  [CFU] [PFU];  [iU]/L g/L
    [iU] [iU]2;  m s;  m m2;  Cel s;  dB[SPL] dB;  dB[V] dB;  rad 1;  deg 1;  sr 1;  kg/m2 kg/m3;  mm[Hg] mm;  dB/m /m;  Cel/min K/min
    g% %;  [hp_X] 1;  [hp_X] [kp_X];  mmol/L mmol/kg;  A C;  J W
"""


@pytest.mark.parametrize(("a", "b"), _rows(COMPARABLE))
def test_comparable(a: str, b: str) -> None:
    """mol is a number, so mmol/L is commensurable with /L, and U/L (umol/min) with kat/L: UCUM's rule, kept."""
    assert comparable(a, b)
    assert comparable(b, a)


@pytest.mark.parametrize(("a", "b"), _rows(DIFFERENT))
def test_not_comparable(a: str, b: str) -> None:
    """An arbitrary unit is comparable with itself only (§24); mass and amount of substance are two things."""
    assert not comparable(a, b)
    with pytest.raises(UcumError, match="different dimensions"):
        convert(Decimal(1), a, b)


def test_why_mass_is_no_amount_of_substance() -> None:
    with pytest.raises(UcumError, match="molar mass"):
        convert(Decimal(180), "mg/dL", "mmol/L")


def test_why_arbitrary_units_are_not_converted() -> None:
    with pytest.raises(UcumError, match="arbitrary units are comparable with themselves only"):
        convert(Decimal(1), "[iU]/L", "U/L")


@pytest.mark.parametrize("codes", [("mmHg", "kPa"), ("kPa", "mmHg")])
def test_a_wrong_code_is_named(codes: tuple[str, str]) -> None:
    for call in (lambda: convert(Decimal(1), *codes), lambda: comparable(*codes)):
        with pytest.raises(UcumError) as caught:
            call()
        assert (caught.value.code, caught.value.suggestion) == ("mmHg", "mm[Hg]")


def test_digits_of_the_value_are_kept() -> None:
    """The precision of a measurement is in its digits: 5.40 g is 5400 mg, 5400 mg is 5.400 g."""
    assert str(convert(Decimal("5400"), "mg", "g")) == "5.400"
    assert str(convert(Decimal("1"), "kg", "g")) == "1000"
    assert str(convert(Decimal("1.10"), "g", "g")) == "1.10"
    assert str(convert(Decimal("37"), "Cel", "K")) == "310.15"


def test_whole_numbers_are_taken_too() -> None:
    assert convert(5400, "mg", "g") == Decimal("5.4")


def test_exact_beyond_34_digits() -> None:
    zeros = "0" * 40
    assert convert(Decimal(f"1.000{zeros}1"), "kg", "g") == Decimal(f"1000.{zeros}1")
    assert convert(Decimal(f"3937{zeros}3937"), "[ft_us]", "m") == Decimal(f"1200{zeros}1200")


def _suite(corpus: Path) -> dict[str, str]:
    """Name and expression of HL7's FHIRPath tests that hold only quantities in quotes, and are true."""
    with tarfile.open(corpus / "tests" / "fhirpath-r4.tar.gz") as archive:
        member = next(name for name in archive.getnames() if name.endswith("tests-fhir-r4.xml"))
        file = archive.extractfile(member)
        assert file
        text = file.read().decode()
    found = re.findall(r'<test name="(\w+)"[^>]*><expression>([^<]*)</expression><output type="boolean">true</output>', text)
    quantity = r"[\d.]+ '[^']+'"
    return {name: expression for name, expression in found if re.fullmatch(rf"{quantity}( (=|!=|~|\*|/) {quantity})+", expression)}


def test_quantities_of_the_fhirpath_suite(corpus: Path) -> None:
    cases = _suite(corpus)
    assert {"testQuantity1", "testQuantity3", "testQuantity4", "testQuantity9", "testQuantity10", "testQuantity11"} <= cases.keys()
    for name, expression in cases.items():
        numbers = [(Decimal(value), unit) for value, unit in re.findall(r"([\d.]+) '([^']+)'", expression)]
        operators = re.findall(r"' (\S+) ", expression)
        value, unit = numbers[0]
        if operators[0] in "*/":
            other, by = numbers.pop(1)
            value, unit = (value * other, f"({unit}).({by})") if operators.pop(0) == "*" else (value / other, f"({unit})/({by})")
        expected, target = numbers[1]
        result = convert(value, unit, target)
        if operators[0] == "~":
            digits = max(expected.as_tuple().exponent, value.as_tuple().exponent)
            assert round(result / 1000, int(digits)) == round(expected / 1000, int(digits)), name
        else:
            assert (result == expected) is (operators[0] == "="), name
