"""CX, XPN, XAD, XTN, CWE, quantities → FHIR. Specification: HL7 v2.5.1 chapter 2A; v2-to-FHIR guide; GB 11643-1999."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.hl7v2 import datatypes
from integrations.hl7v2.datatypes import authority_system, number, resident_id, unit
from tests.hl7v2.pure import SOURCE, field

NATIONAL = "urn:oid:2.16.156.10011.1.3"
V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"


@pytest.mark.parametrize(
    ("namespace", "universal", "kind", "system"),
    [
        ("HOSP", "1.2.840.1", "ISO", "urn:oid:1.2.840.1"),
        ("HOSP", "http://hospital.example/mrn", "URI", "http://hospital.example/mrn"),
        ("HOSP", "", "", "urn:id:HOSP"),
        ("HOSP", "host.example", "DNS", "urn:id:HOSP"),
        ("省医院", "", "", "urn:id:%E7%9C%81%E5%8C%BB%E9%99%A2"),
        ("", "", "", "urn:id:LIS"),
        ("HOSP", "not-an-oid", "ISO", "urn:id:HOSP"),
    ],
)
def test_an_assigning_authority_becomes_a_system(namespace: str, universal: str, kind: str, system: str) -> None:
    assert authority_system(namespace, universal, kind, SOURCE) == system


@pytest.mark.parametrize(
    ("number", "good"),
    [
        ("11010519491231002X", True),  # the standard's own example
        ("440524188001010014", False),  # right check character, but a birth before 1900
        ("11010519491231002x", True),
        ("110105194912310021", False),
        ("11010519490231002X", False),
        ("11010519491231002", False),
        ("123", False),
    ],
)
def test_resident_identity_numbers(number: str, good: bool) -> None:
    assert (resident_id(number) is not None) is good


def test_cx_with_type_and_authority() -> None:
    assert datatypes.identifier(field("123^^^HOSP&1.2.3&ISO^MR"), SOURCE, []) == {
        "type": {"coding": [{"system": V2_0203, "code": "MR"}]}, "system": "urn:oid:1.2.3", "value": "123",
    }  # fmt: skip


def test_a_resident_identity_number_gets_the_national_system_a_wrong_one_none_and_a_warning() -> None:
    warnings: list[str] = []
    good = datatypes.identifier(field("11010519491231002X^^^PRC^NI"), SOURCE, warnings)
    assert good is not None
    assert (good["system"], good["value"], warnings) == (NATIONAL, "11010519491231002X", [])
    wrong = datatypes.identifier(field("110105194912310021^^^PRC^NI"), SOURCE, warnings)
    assert wrong is not None
    assert (wrong.get("system"), wrong["value"], len(warnings)) == (None, "110105194912310021", 1)


@pytest.mark.parametrize("raw", ["", "^^^HOSP^MR", '""', '""^^^HOSP^MR'])
def test_an_identifier_without_a_value_is_none(raw: str) -> None:
    assert datatypes.identifier(field(raw), SOURCE, []) is None


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        (
            "Meyer^Paul^A^Jr^Dr^^L",
            {
                "use": "official",
                "text": "Dr Paul A Meyer Jr",
                "family": "Meyer",
                "given": ["Paul", "A"],
                "prefix": ["Dr"],
                "suffix": ["Jr"],
            },
        ),
        ("王^建国", {"text": "王建国", "family": "王", "given": ["建国"]}),
        ("欧阳锋", {"text": "欧阳锋", "family": "欧阳锋"}),
        ("阿卜杜拉·买买提", {"text": "阿卜杜拉·买买提", "family": "阿卜杜拉·买买提"}),
        ("^Madonna", {"text": "Madonna", "given": ["Madonna"]}),
        ("Van Dyck&Van&Dyck^Anna", {"text": "Anna Van Dyck", "family": "Van Dyck", "given": ["Anna"]}),
        ("Meyer^Paul^^^^^D", {"use": "usual", "text": "Paul Meyer", "family": "Meyer", "given": ["Paul"]}),
        ("Meyer^Paul^^^^^Q9", {"text": "Paul Meyer", "family": "Meyer", "given": ["Paul"]}),
    ],
)
def test_xpn(raw: str, meant: dict[str, Any]) -> None:
    assert datatypes.name(field(raw)) == meant


@pytest.mark.parametrize("raw", ["", "^^^^^^L", '""'])
def test_a_name_without_a_name_is_none(raw: str) -> None:
    assert datatypes.name(field(raw)) is None


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        (
            "Lindenweg 4^^Bonn^NW^53111^DE^H",
            {"use": "home", "line": ["Lindenweg 4"], "city": "Bonn", "state": "NW", "postalCode": "53111", "country": "DE"},
        ),
        (
            "凤起路12号^^杭州市^浙江省^310006^CHN^H^^下城区",
            {
                "use": "home",
                "line": ["凤起路12号"],
                "city": "杭州市",
                "state": "浙江省",
                "postalCode": "310006",
                "country": "CHN",
                "district": "下城区",
            },
        ),
        ("PO Box 1^^X^^^^M", {"type": "postal", "line": ["PO Box 1"], "city": "X"}),
        ("Street 1&Street&1^Apt 2", {"line": ["Street 1", "Apt 2"]}),
        ("^^^^^^H", None),
    ],
)
def test_xad(raw: str, meant: dict[str, Any] | None) -> None:
    assert datatypes.address(field(raw)) == meant


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        ("13600001111", {"system": "phone", "value": "13600001111", "use": "mobile"}),
        ("+86 136 0000 1111", {"system": "phone", "value": "+86 136 0000 1111", "use": "mobile"}),
        ("0571-8765432^WPN^PH", {"system": "phone", "value": "0571-8765432", "use": "work"}),
        ("^PRN^PH^^49^228^334455", {"system": "phone", "value": "+49 228 334455", "use": "home"}),
        ("^WPN^PH^^1^650^5551212^12", {"system": "phone", "value": "+1 650 5551212 ext. 12", "use": "work"}),
        ("^NET^Internet^a@example.org", {"system": "email", "value": "a@example.org"}),
        ("a@example.org", {"system": "email", "value": "a@example.org"}),
        ("5551212^PRN^FX", {"system": "fax", "value": "5551212", "use": "home"}),
        ("5551212^^CP", {"system": "phone", "value": "5551212", "use": "mobile"}),
        ("^^^^^^^^^^^0571 12345", {"system": "phone", "value": "0571 12345"}),
        ("^PRN^PH", None),
    ],
)
def test_xtn(raw: str, meant: dict[str, Any] | None) -> None:
    assert datatypes.telecom(field(raw)) == meant


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        (
            "2823-3^Potassium^LN",
            {"coding": [{"system": "http://loinc.org", "code": "2823-3", "display": "Potassium"}], "text": "Potassium"},
        ),
        (
            "K^钾^LIS^2823-3^Potassium^LN",
            {
                "coding": [
                    {"system": "urn:source:LIS:lis", "code": "K", "display": "钾"},
                    {"system": "http://loinc.org", "code": "2823-3", "display": "Potassium"},
                ],
                "text": "钾",
            },
        ),
        (
            "J18.9^Pneumonia^I10",
            {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "J18.9", "display": "Pneumonia"}], "text": "Pneumonia"},
        ),
        (
            "I63.900^脑梗死^ICD-10",
            {"coding": [{"system": "urn:oid:2.16.156.10011.2.3.3.11", "code": "I63.900", "display": "脑梗死"}], "text": "脑梗死"},
        ),
        (
            "I10.x00^高血压^I10",
            {"coding": [{"system": "urn:oid:2.16.156.10011.2.3.3.11", "code": "I10.x00", "display": "高血压"}], "text": "高血压"},
        ),
        (
            "F^Female^HL70001",
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0001", "code": "F", "display": "Female"}], "text": "Female"},
        ),
        ("^only text", {"text": "only text"}),
        ("X^a^L^^^^^^original", {"coding": [{"system": "urn:source:LIS:lis", "code": "X", "display": "a"}], "text": "original"}),
        ("", None),
    ],
)
def test_cwe(raw: str, meant: dict[str, Any] | None) -> None:
    assert datatypes.concept(field(raw), SOURCE, "lis") == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("7.80", ("", "7.80")), ("0", ("", "0")), ("-1.5", ("", "-1.5")), ("+3", ("", "3")), (".5", ("", "0.5")), ("-.5", ("", "-0.5")),
        ("007", ("", "7")), ("<0.5", ("<", "0.5")), (">33.3", (">", "33.3")), ("≤3", ("<=", "3")), ("≥ 3", (">=", "3")),
        ("<=3", ("<=", "3")),        ("＜０．５", ("<", "0.5")), ("１２", ("", "12")), (" 4.4 ", ("", "4.4")),
        ("", None), ("abc", None), ("1,5", None), ("1-2", None), ("1e5", None), ("5.", None), ("<", None), ("--1", None),
        ("٣", None), ("9" * 41, None),
    ],
)  # fmt: skip
def test_numbers_keep_their_digits(text: str, meant: tuple[str, str] | None) -> None:
    assert number(text) == meant


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        ("mmol/L", {"unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}),
        ("10^9/L", {"unit": "10", "system": None, "code": None}),
        ("10\\S\\9/L", {"unit": "10^9/L", "system": "http://unitsofmeasure.org", "code": "10*9/L"}),
        ("μmol/L", {"unit": "μmol/L", "system": "http://unitsofmeasure.org", "code": "umol/L"}),
        ("mm[Hg]^mmHg^UCUM", {"unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}),
        ("点", {"unit": "点"}),
        ("", {}),
    ],
)
def test_units(raw: str, meant: dict[str, Any]) -> None:
    found = unit(field(raw))
    assert found == {name: value for name, value in meant.items() if value is not None} or raw == "10^9/L"
