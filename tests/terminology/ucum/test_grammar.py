"""The rulebook of UCUM codes: what is valid, what is not and why, and which code is meant.

https://ucum.org/ucum §3-§12; valid and invalid codes from UCUM's "Table of Example UCUM Codes for Electronic Messaging" (with its list of
corrected errors), UCUM's functional tests, and R4's value set of common units (http://hl7.org/fhir/ValueSet/ucum-common).
"""

from __future__ import annotations

from fractions import Fraction

import pytest

from fhir_server.model.definitions import definitions
from fhir_server.terminology.ucum import UcumError, parse

CLINICAL = """
    mmol/L mg/dL umol/L U/L [iU]/L [IU]/L m[IU]/L 10*9/L 10*12/L 10*6/uL 10*3/uL mm[Hg] cm[H2O] kPa Cel [degF] kg/m2 mL/min/{1.73_m2} /[HPF]
    /[LPF] ng/mL pg pg/mL fL g/dL g/L % meq/L meq mosm/kg mosm/L [arb'U] wk mo a d h min s ms us [lb_av] [oz_av] [in_i] [ft_i] kcal L/min
    dB dB[SPL] /min {beats}/min {breaths}/min mL/h mg/kg ug/kg/min mg/g mg/mmol mmol/mol nmol/L pmol/L u[IU]/mL kU/L [iU]/kg g/kg/d mL/kg/h
    kg g mg ug ng cm mm m km um nm cm2 m2 cm3 mL uL dL L Pa bar atm W J V mV Ohm Hz Bq Gy Sv mSv kat nkat [pH] [diop] [Ch] [drp] [MET]
    mL/cm[H2O] dyn.s/cm5 mm/h m/s cm/s L/s/m2 1 10*3 {score} {#} %{vol} 10*3{rbc} /100{WBC} {ratio} kg{body_wt} [CFU]/mL [PFU] [todd'U]
    ng{FEU}/mL [APL'U] [GPL'U] [beth'U] g.m/{hb} mmol/(8.h.kg) 10.L/(min.m2) [cup_us] [tsp_us] ''
"""


@pytest.mark.parametrize("code", CLINICAL.split())
def test_codes_of_everyday(code: str) -> None:
    assert parse(code).code == code


WITH_SPACES = {
    "%{Negative Control}", "{# of calculi}", "{# of donor informative markers}", "{# of fetuses}", "{# of informative markers}",
    "{2 or 3 times}/d", "{3 times}/d", "{4 times}/d", "{5 times}/d", "{clock time}", "{P2Y12 Reaction Units}",
}  # fmt: skip


def test_common_units_of_r4() -> None:
    """All 1,364 codes of ucum-common, but for eleven with a space in an annotation, which §6 forbids (characters 33-126)."""
    value_set = definitions().resource("http://hl7.org/fhir/ValueSet/ucum-common")
    assert value_set
    codes = [concept["code"] for concept in value_set["compose"]["include"][0]["concept"]]
    assert len(codes) == 1364
    refused = set()
    for code in codes:
        try:
            parse(code)
        except UcumError:
            refused.add(code)
    assert refused == WITH_SPACES


@pytest.mark.parametrize(
    ("code", "same"),
    [
        ("2.5", "10"),  # §8: the period multiplies
        ("12.h", "h.12"),
        ("cm3", "10*-6.m3"),  # §9: prefix and atom are raised together
        ("m+2", "m2"),  # §9: a plus sign may stand before an exponent
        ("m0", "1"),
        ("/m", "m-1"),  # §7: a leading solidus inverts
        ("m/s/s", "m.s-2"),  # §7: from left to right
        ("mg/dL.L", "(mg/dL).L"),
        ("mg/(dL.L)", "mg/dL/L"),  # §10
        ("((m))", "m"),
        ("10^3", "10*3"),  # §29
        ("10*3", "1000"),
        ("10*", "10"),
        ("10*-2", "%"),
        ("%{vol}", "%"),  # §12: annotations mean nothing
        ("kg{total}", "kg"),
        ("{RBC}", "1"),
        ("m{a}.s{b}", "m.s"),
        ("{a}.m", "m"),
        ("/100{WBC}", "%"),
        ("l", "L"),
        ("mg%", "mg/dl"),  # §45
        ("[IU]", "[iU]"),
        ("m[H2O]2", "m[H2O].m[H2O]"),
        ("cal_[15]2", "cal_[15].cal_[15]"),
        ("KiBy", "1024.By"),  # §49
        ("dam", "10.m"),  # §4: the longest prefix
        ("dar", "m2.10"),  # deciare, no deka-r
        ("[car_Au]", "/24"),
        ("7.d", "wk"),
        ("007", "7"),
    ],
)
def test_same_meaning(code: str, same: str) -> None:
    one, other = parse(code), parse(same)
    assert (one.factor, one.dimension) == (other.factor, other.dimension)


@pytest.mark.parametrize(
    ("code", "name"),
    [("Pa", "pascal"), ("cd", "candela"), ("Gb", "gilbert"), ("ph", "phot"), ("min", "minute"), ("pt", "picotonne"), ("PT", "petatesla")],
)
def test_conflicts_of_table_25(code: str, name: str) -> None:
    """A reading as prefix and non-metric unit (peta-year, centi-day) is none."""
    meaning = {
        "pascal": "N/m2", "candela": "cd", "gilbert": "Oe.cm", "phot": "10*-4.lx", "minute": "60.s", "picotonne": "ug",
        "petatesla": "10*15.T",
    }[name]  # fmt: skip
    assert (parse(code).factor, parse(code).dimension) == (parse(meaning).factor, parse(meaning).dimension)


INVALID = [
    # code, character (from 1), words of the rule
    ("", 1, "empty"),
    ("mg dL", 3, "white space"),
    (" mg", 1, "white space"),
    ("mg\t", 3, "white space"),
    ("rad2{錠}", 6, "§3"),
    ("µg", 1, "§3"),
    ('m"', 2, "not allowed here"),
    ("m=", 2, "not allowed here"),
    ("m/", 2, "missing after '/'"),
    ("mol/l.", 6, "missing after '.'"),
    (".m", 1, "missing at the beginning"),
    ("//m", 2, "missing after '/'"),
    ("m..s", 3, "missing after '.'"),
    ("m./s", 3, "missing after '.'"),
    ("()", 2, "missing after '('"),
    ("m.(/s)", 4, "missing after '('"),
    ("(m", 1, "not closed"),
    ("((m)", 1, "not closed"),
    ("m)", 2, "closes nothing"),
    ("m(s)", 2, "'.' or '/' is missing"),
    ("(m)s", 4, "'.' or '/' is missing"),
    ("ug(8.h)", 3, "'.' or '/' is missing"),
    ("mL(8.h)/kg", 3, "'.' or '/' is missing"),
    ("{a}rad2{b}", 4, "'.' or '/' is missing"),
    ("{|}1", 4, "'.' or '/' is missing"),
    ("(m)2", 4, "'.' or '/' is missing"),
    ("m{a", 2, "'{' is not closed"),
    ("m{{a}}", 2, "none may hold '{'"),
    ("m{a}{b}", 5, "only one annotation"),
    ("m}", 2, "not allowed here"),
    ("[in_i", 1, "'[' is not closed"),
    ("[in_[i]]", 1, "'[' is not closed"),
    ("m]", 2, "not allowed here"),
    ("m-", 2, "sign"),
    ("+m", 1, "sign"),
    ("m--2", 2, "sign"),
    ("10+3/ul", 3, "no exponent"),
    ("2-3", 2, "no exponent"),
    ("0", 1, "positive"),
    ("m/00", 3, "positive"),
    ("g/12h", 3, "joined by '.'"),
    ("mmin", 1, "not metric"),
    ("k[AU]/L", 1, "not metric"),
    ("m%", 1, "not metric"),
    ("k10*3", 1, "not metric"),
    ("kkg", 1, "no unit of UCUM"),
    ("k", 1, "no unit of UCUM"),
    ("molv", 1, "no unit of UCUM"),
    ("iU", 1, "no unit of UCUM"),
    ("[iIU]/mL", 1, "no unit of UCUM"),
    ("[BETH'U]", 1, "no unit of UCUM"),
    ("[M'U]", 1, "no unit of UCUM"),
    ("mmol/kg[H20]", 6, "no unit of UCUM"),
    ("cm[H20]", 1, "no unit of UCUM"),
    ("MG/dl.Xy", 7, "no unit of UCUM"),
    ("m2-3", 1, "no unit of UCUM"),
    ("m1000", 2, "exponents"),
    ("km500.km500", 7, "beyond"),
]


@pytest.mark.parametrize(("code", "character", "rule"), INVALID)
def test_refused_with_place_and_rule(code: str, character: int, rule: str) -> None:
    with pytest.raises(UcumError) as caught:
        parse(code)
    error = caught.value
    assert rule in error.rule
    assert error.code == code
    assert error.position == character - 1
    assert f"'{code}', character {character}: " in str(error)


MEANT = [
    ("μmol/L", "umol/L"),  # Greek mu
    ("µg/mL", "ug/mL"),  # the sign micro
    ("mmHg", "mm[Hg]"),
    ("MMHG", "mm[Hg]"),
    ("cmH2O", "cm[H2O]"),
    ("cm[H20]", "cm[H2O]"),
    ("cc", "cm3"),
    ("mcg/mL", "ug/mL"),
    ("mEq/L", "meq/L"),
    ("mOsm/kg", "mosm/kg"),
    ("IU/L", "[iU]/L"),
    ("mIU/mL", "m[iU]/mL"),
    ("uIU/mL", "u[iU]/mL"),
    ("MMOL/L", "mmol/L"),
    ("KG", "kg"),
    ("Kg/m2", "kg/m2"),
    ("kg/m²", "kg/m2"),
    ("kg/m^2", "kg/m2"),
    ("kg·m⁻²", "kg.m-2"),
    ("℃", "Cel"),
    ("°C", "Cel"),
    ("degC", "Cel"),
    ("°F", "[degF]"),
    ("‰", "[ppth]"),
    ("mg / dL", "mg/dL"),
    ("mg per dL", "mg/dL"),
    ("mg dL ", None),
    ("ｍｍｏｌ／Ｌ", "mmol/L"),  # full width, as Chinese keyboards write
    ("㎎", "mg"),
    ("10+3/uL", "10*3/uL"),
    ("10e9/L", "10*9/L"),
    ("10E3/uL", "10*3/uL"),
    ("x10^9/L", "10*9/L"),
    ("X10E3/uL", "10*3/uL"),
    ("×10^9/L", "10^9/L"),
    ("*10^9/L", "10^9/L"),
    ("次/分", "{times}/min"),  # Chinese laboratories and wards
    ("个/HP", "{count}/[HPF]"),
    ("毫米汞柱", "mm[Hg]"),
    ("TAB", "{tbl}"),
    ("g/12h", "g/(12.h)"),
    ("12h", "12.h"),
    ("beats/min", "{beats}/min"),
    ("bpm", "{beats}/min"),
    ("cells/uL", "{cells}/uL"),
    ("{clock time}", "{clock_time}"),
    ("sec", "s"),
    ("hr", "h"),
    ("mL/hr", "mL/h"),
    ("years", "a"),
    ("lbs", "[lb_av]"),
    ("inch", "[in_i]"),
    ("/hpf", "/[HPF]"),
    ("in_i", "[in_i]"),
    ("[IN_I]", "[in_i]"),
    ("Kcal", "kcal"),
    ("[BETH'U]", "[beth'U]"),
    ("[toddU]", "[todd'U]"),
    ("mM", "mmol/L"),
    ("pmol/mM", "pmol/(mmol/L)"),
    ("mmHg/sec", "mm[Hg]/s"),
    ("foo", None),
    ("m/", None),
    ("mmin", None),  # a thousandth of a minute is no minute
    ("units/L", None),  # enzyme units, international units, or counted things
    ("x" * 100, None),
]


@pytest.mark.parametrize(("code", "meant"), MEANT)
def test_suggestion(code: str, meant: str | None) -> None:
    with pytest.raises(UcumError) as caught:
        parse(code)
    assert caught.value.suggestion == meant
    if meant:
        parse(meant)
        assert str(caught.value).endswith(f"; did you mean '{meant}'?")


def test_codes_are_case_sensitive() -> None:
    """§3: M is mega, m milli; S siemens, s second; G gauss, g gram."""
    assert parse("Mg").factor / parse("mg").factor == 10**9
    assert parse("S").dimension != parse("s").dimension
    assert parse("G").dimension != parse("g").dimension


def test_long_codes_are_refused_and_shown_short() -> None:
    code = "m" + ".m" * 5000
    with pytest.raises(UcumError, match="at most 1000") as caught:
        parse(code)
    assert caught.value.code == code
    assert len(str(caught.value)) < 200


def test_a_message_can_always_be_sent() -> None:
    """JSON may hold half a surrogate pair; no encoder takes it."""
    with pytest.raises(UcumError) as caught:
        parse("m\ud83e")
    str(caught.value).encode()


def test_special_units_take_numbers_and_prefixes() -> None:
    """§22: the scale factor."""
    for code, scale in (("Cel", 1), ("mCel", Fraction(1, 1000)), ("dB", Fraction(1, 10)), ("2.Cel", 2), ("Cel.10*-1", Fraction(1, 10))):
        unit = parse(code)
        assert unit.special, code
        assert unit.special.scale == scale


def test_special_units_in_products_stay_themselves() -> None:
    """§22: 'in theory, special units cannot take part in any algebraic operations'. dB/m is comparable with dB/cm, with nothing else."""
    assert parse("dB/m").dimension == parse("B/cm").dimension == (("B", 1), ("m", -1))
    assert parse("dB/m").special is None
    assert parse("Cel/min").dimension != parse("K/min").dimension
    assert parse("Cel.m/m").special == parse("Cel").special
    assert parse("Cel/Cel").dimension == ()
    for code, power in (("Cel2", 2), ("/Cel", -1)):
        assert (parse(code).special, parse(code).dimension) == (None, (("Cel", power),))


def test_arbitrary_units_are_marked() -> None:
    """§25: any term with an arbitrary unit is arbitrary."""
    assert parse("m[iU]/mL").arbitrary
    assert not parse("U/L").arbitrary
    assert not parse("[iU]/[iU]").arbitrary
