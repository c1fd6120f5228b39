"""OBX and OBR → Observation and DiagnosticReport. Specification: HL7 v2.5.1 chapter 7.4, tables 0078, 0085, 0123; v2-to-FHIR guide."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from fhir_server.model import json_codec
from fhir_server.validation.structure import check
from integrations.hl7v2.errors import Refusal
from tests.hl7v2.pure import mapped, only
from tests.hl7v2.support import result

ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"


def observation(row: str) -> tuple[dict[str, Any], list[str]]:
    """The Observation of one OBX (after 'OBX|1|'), checked; and the warnings."""
    mapping = mapped(result("P1", "C1", row))
    found = only(mapping, "Observation")
    check(found)
    return found, mapping.warnings


@pytest.mark.parametrize(
    ("kind", "sent", "name", "meant"),
    [
        ("NM", "7.80", "valueQuantity", '{"value":7.80,"unit":"mmol/L","system":"http://unitsofmeasure.org","code":"mmol/L"}'),
        ("NM", "<0.5", "valueQuantity", '{"value":0.5,"comparator":"<","unit":"mmol/L","system":"http://unitsofmeasure.org","code":"mmol/L"}'),
        ("NM", "≥３", "valueQuantity", '{"value":3,"comparator":">=","unit":"mmol/L","system":"http://unitsofmeasure.org","code":"mmol/L"}'),
        ("NM", "溶血", "valueString", '"溶血"'),
        ("SN", ">^33.3", "valueQuantity", '{"value":33.3,"comparator":">","unit":"mmol/L","system":"http://unitsofmeasure.org","code":"mmol/L"}'),
        ("SN", "=^3", "valueQuantity", '{"value":3,"unit":"mmol/L","system":"http://unitsofmeasure.org","code":"mmol/L"}'),
        ("SN", "^1^:^128", "valueRatio", '{"numerator":{"value":1},"denominator":{"value":128}}'),
        ("SN", "^2^+", "valueString", '"2+"'),
        ("SN", "<>^5", "valueString", '"<>5"'),
        ("ST", "阴性", "valueString", '"阴性"'),
        ("TX", "one~two", "valueString", '"one\\ntwo"'),
        ("FT", "a\\.br\\b", "valueString", '"a\\nb"'),
        ("", "free", "valueString", '"free"'),
        ("DT", "20260110", "valueDateTime", '"2026-01-10"'),
        ("DTM", "20260110084500", "valueDateTime", '"2026-01-10T08:45:00+08:00"'),
        ("TS", "2026013", "valueString", '"2026013"'),
        ("TM", "0845", "valueTime", '"08:45:00"'),
        ("TM", "2545", "valueString", '"2545"'),
        ("DR", "20260110^20260112", "valuePeriod", '{"start":"2026-01-10","end":"2026-01-12"}'),
        ("XYZ", "anything^at all", "valueString", '"anything^at all"'),
    ],
)  # fmt: skip
def test_values(kind: str, sent: str, name: str, meant: str) -> None:
    found, warnings = observation(f"{kind}|X^Y^LIS||{sent}|mmol/L|||||F")
    assert json_codec.dumps(found[name]).decode() == meant
    assert [one for one in found if one.startswith("value")] == [name]
    kept_as_text = name == "valueString" and kind in ("NM", "TS", "TM")
    assert any(one.startswith("OBX[1]-5") for one in warnings) is kept_as_text


def test_sn_and_nr_ranges() -> None:
    for row in ("SN|X^Y^L||^10^-^20|mg|||||F", "NR|X^Y^L||10^20|mg|||||F"):
        found, _ = observation(row)
        assert (str(found["valueRange"]["low"]["value"]), str(found["valueRange"]["high"]["value"])) == ("10", "20")


def test_coded_values() -> None:
    found, _ = observation("CWE|X^Y^L||260385009^Negative^SCT||||||F")
    assert found["valueCodeableConcept"]["coding"] == [{"system": "http://snomed.info/sct", "code": "260385009", "display": "Negative"}]


def test_repeated_values_become_components() -> None:
    found, _ = observation("NM|BP^Blood pressure^L||120~80|mm[Hg]^mmHg^UCUM|||||F")
    assert [str(one["valueQuantity"]["value"]) for one in found["component"]] == ["120", "80"]
    assert "valueQuantity" not in found


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("NM|X^Y^L||||||||F", "unknown"),
        ('NM|X^Y^L||""||||||F', "unknown"),
        ("ST|X^Y^L|| ||||||F", "unknown"),
        ("NM|X^Y^L||||||||N", "not-asked"),
        ("NM|X^Y^L||||||||X", "not-performed"),
    ],
)
def test_a_missing_value_is_told_never_dropped(row: str, reason: str) -> None:
    found, _ = observation(row)
    assert found["dataAbsentReason"]["coding"] == [{"system": ABSENT, "code": reason}]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("F", "final"), ("P", "preliminary"), ("C", "corrected"), ("A", "amended"), ("B", "amended"), ("X", "cancelled"),
        ("D", "entered-in-error"), ("W", "entered-in-error"), ("R", "preliminary"), ("I", "registered"), ("S", "registered"),
        ("V", "final"), ("f", "final"), ("?", "unknown"), ("", "unknown"),
    ],
)  # fmt: skip
def test_result_status(sent: str, status: str) -> None:
    found, warnings = observation(f"NM|X^Y^L||1||||||{sent}")
    assert found["status"] == status
    assert any("OBX-11" in one for one in warnings) is (status == "unknown"), "what is not in the table is never final"


def test_u_makes_a_known_result_final_and_keeps_its_value() -> None:
    first = mapped(result("P1", "C1", "NM|X^Y^L||1.50||||||P", status="P"))
    stored = dict(first.resources)
    second = only(mapped(result("P1", "C2", "NM|X^Y^L||||||||U"), stored), "Observation")
    assert (second["status"], str(second["valueQuantity"]["value"])) == ("final", "1.50")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("O", "registered"), ("I", "registered"), ("S", "registered"), ("P", "preliminary"), ("A", "partial"), ("R", "partial"),
        ("C", "corrected"), ("F", "final"), ("X", "cancelled"), ("M", "preliminary"), ("", "unknown"), ("?", "unknown"),
    ],
)  # fmt: skip
def test_report_status(sent: str, status: str) -> None:
    assert only(mapped(result("P1", "C1", status=sent)), "DiagnosticReport")["status"] == status


@pytest.mark.parametrize("sent", ["Y", "Z"])
def test_a_status_for_queries_is_refused(sent: str) -> None:
    with pytest.raises(Refusal) as refusal:
        mapped(result("P1", "C1", status=sent))
    assert (refusal.value.code, refusal.value.error, refusal.value.location) == ("AE", "103", "OBR[1]-25")


@pytest.mark.parametrize(
    ("flag", "code"),
    [
        ("H", "H"), ("L", "L"), ("HH", "HH"), ("LL", "LL"), ("N", "N"), ("A", "A"), ("h", "H"), ("↑", "H"), ("↓", "L"), ("高", "H"),
        ("低", "L"), ("↑↑", "HU"), ("↓↓", "LU"), ("↑↓", "A"), ("正常", "N"), ("阳性", "POS"), ("阴性", "NEG"), ("＋", "POS"), ("*", "A"),
    ],
)  # fmt: skip
def test_flags(flag: str, code: str) -> None:
    found, warnings = observation(f"NM|X^Y^L||5|mmol/L|3-6|{flag}|||F")
    (concept,) = found["interpretation"]
    assert [one["code"] for one in concept["coding"]] == [code]
    assert warnings == []


@pytest.mark.parametrize(
    ("value", "flag", "code"),
    [("7.1", "危急", "HH"), ("2.1", "危急", "LL"), ("4", "危", "AA"), ("7.1", "AA", "HH"), ("2.1", "危急值", "LL"), ("溶血", "危急", "AA")],
)
def test_a_critical_flag_gets_its_side_from_the_range(value: str, flag: str, code: str) -> None:
    found, _ = observation(f"NM|X^Y^L||{value}|mmol/L|3.5-5.3|{flag}|||F")
    assert found["interpretation"][0]["coding"][0]["code"] == code


def test_several_flags_are_kept_and_an_unknown_one_stays_text_with_a_warning() -> None:
    found, warnings = observation("NM|X^Y^L||5|mmol/L|3-6|H~A~strange|||F")
    assert [one.get("coding", [{}])[0].get("code") for one in found["interpretation"]] == ["H", "A", None]
    assert found["interpretation"][2] == {"text": "strange"}
    assert len(warnings) == 1
    assert "strange" in warnings[0]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("3.5-5.3", "3.5", "5.3"), ("3.5--5.3", "3.5", "5.3"), ("3.5 - 5.3", "3.5", "5.3"), ("1.04～1.55", "1.04", "1.55"),
        ("3.5—5.3", "3.5", "5.3"), ("3.5–5.3", "3.5", "5.3"), ("3.5 to 5.3", "3.5", "5.3"), ("3.5\\R\\5.3", "3.5", "5.3"),
        ("-2.3-2.3", "-2.3", "2.3"), ("<5.20", None, "5.20"), ("≤5.20", None, "5.20"), ("<=5", None, "5"), (">1.0", "1.0", None),
        ("≥1.0", "1.0", None), (">=1.0", "1.0", None), ("阴性", None, None), ("negative", None, None), ("儿童:1-2;成人:3-4", None, None),
        ("１.０-２.０", "1.0", "2.0"),
    ],
)  # fmt: skip
def test_reference_ranges(text: str, low: str | None, high: str | None) -> None:
    found, _ = observation(f"NM|X^Y^L||5|mmol/L|{text}||||F")
    (entry,) = found["referenceRange"]
    assert entry["text"] == text.replace("\\R\\", "~")
    assert (str(entry["low"]["value"]) if "low" in entry else None, str(entry["high"]["value"]) if "high" in entry else None) == (low, high)


def test_a_range_split_by_sex_gives_an_entry_for_each() -> None:
    found, _ = observation("NM|X^Y^L||60|umol/L|男:57-97;女:41-73||||F")
    entries = [
        (one["appliesTo"][0]["coding"][0]["code"], str(one["low"]["value"]), str(one["high"]["value"])) for one in found["referenceRange"]
    ]
    assert entries == [("male", "57", "97"), ("female", "41", "73")]


def test_notes_belong_to_what_stands_before_them() -> None:
    text = result("P1", "C1").replace("OBX|1", "NTE|1||to the report\rOBX|1") + "NTE|1||to the result~second\r"
    mapping = mapped(text)
    assert only(mapping, "DiagnosticReport")["conclusion"] == "to the report"
    assert only(mapping, "Observation")["note"] == [{"text": "to the result\nsecond"}]


def test_each_report_has_its_own_order() -> None:
    def group(number: int, status: str) -> str:
        numbers = f"PL{number}^HIS|FL{number}^LIS"
        return f"ORC|RE|{numbers}\rOBR|1|{numbers}|X^Y^L{'|' * 20}LAB|{status}\rOBX|1|NM|X^Y^L||1||||||F\r"

    head, _, _ = result("P1", "C1").partition("OBR")
    mapping = mapped(head + group(1, "F") + group(2, "P"))
    reports = [one for (kind, _), one in mapping.resources.items() if kind == "DiagnosticReport"]
    assert [(one["identifier"][0]["value"], one["status"]) for one in reports] == [("FL1", "final"), ("FL2", "preliminary")]
    orders = {one["identifier"][0]["value"] for (kind, _), one in mapping.resources.items() if kind == "ServiceRequest"}
    assert orders == {"PL1", "PL2"}


def test_a_document_becomes_the_reports_form() -> None:
    content = base64.b64encode(b"%PDF-1.4 test").decode()
    mapping = mapped(result("P1", "C1", f"ED|PDF^Report^L||LIS^Application^PDF^Base64^{content}||||||F"))
    report = only(mapping, "DiagnosticReport")
    check(report)
    assert report["presentedForm"] == [{"contentType": "application/pdf", "data": content, "title": "Report"}]


def test_a_document_that_is_not_base64_is_left_out_with_a_warning() -> None:
    mapping = mapped(result("P1", "C1", "ED|PDF^Report^L||LIS^Application^PDF^Base64^???||||||F"))
    assert "presentedForm" not in only(mapping, "DiagnosticReport")
    assert any("base64" in one for one in mapping.warnings)


def test_the_same_test_in_two_sub_ids_is_two_observations_and_an_id_follows_from_the_keys() -> None:
    rows = ("NM|X^Y^L|1|5||||||F", "NM|X^Y^L|2|6||||||F")
    first = mapped(result("P1", "C1", *rows))
    again = mapped(result("P1", "C2", *rows))
    ids = [key for key in first.resources if key[0] == "Observation"]
    assert len(ids) == 2
    assert ids == [key for key in again.resources if key[0] == "Observation"]


def test_a_narrative_with_a_line_in_each_obx_is_one_result() -> None:
    mapping = mapped(result("P1", "C1", "TX|REP^Report^L||first||||||F", "TX|REP^Report^L||second||||||F", "TX|REP^Report^L||||||||F"))
    assert only(mapping, "Observation")["valueString"] == "first\nsecond\n"
    assert len(only(mapping, "DiagnosticReport")["result"]) == 1


def test_the_same_test_twice_without_a_sub_id_loses_neither_value() -> None:
    mapping = mapped(result("P1", "C1", "NM|X^Y^L||5||||||F", "NM|X^Y^L||6||||||F"))
    rows = [one for (kind, _), one in mapping.resources.items() if kind == "Observation"]
    assert [str(one["valueQuantity"]["value"]) for one in rows] == ["5", "6"]
    assert len(only(mapping, "DiagnosticReport")["result"]) == 2


def test_two_panels_under_one_filler_number_are_two_reports() -> None:
    head, _, rest = result("P1", "C1", filler="F1").partition("OBR")
    second = rest.replace("CHEM^Chemistry", "LIP^Lipids").replace("2823-3^Potassium", "2093-3^Cholesterol")
    mapping = mapped(f"{head}OBR{rest}OBR{second}")
    reports = [one for (kind, _), one in mapping.resources.items() if kind == "DiagnosticReport"]
    assert [one["code"]["coding"][0]["code"] for one in reports] == ["CHEM", "LIP"]
    assert [len(one["result"]) for one in reports] == [1, 1]


def test_performers_and_times() -> None:
    found, _ = observation("NM|X^Y^L||5||||||F|||20260120093000||1501^Kraft^Ute")
    assert found["effectiveDateTime"] == "2026-01-20T09:30:00+08:00"
    assert found["issued"] == "2026-01-20T10:15:00+08:00"
    assert found["performer"][0]["display"] == "Ute Kraft"
    without, _ = observation("NM|X^Y^L||5||||||F")
    assert without["effectiveDateTime"] == "2026-01-20T08:10:00+08:00", "OBR-7 where OBX-14 is empty"
