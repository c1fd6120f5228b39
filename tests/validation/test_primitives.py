"""The format of each primitive type: tables of good and bad values.

https://hl7.org/fhir/R4/datatypes.html#primitive (value domains and regular expressions), https://hl7.org/fhir/R4/json.html#primitive
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from fhir_server.model.definitions import definitions
from fhir_server.validation.primitives import MAX_STRING, PRIMITIVES
from tests.validation.judge import errors_of, read_error, verdict

GOOD: dict[str, list[Any]] = {
    "boolean": [True, False],
    "integer": [0, 1, -1, 2147483647, -2147483648],
    "unsignedInt": [0, 1, 2147483647],
    "positiveInt": [1, 2147483647],
    "string": ["x", " ", "  two  blanks ", "line\nbreak\r\n\ttab", "王小明 😀 𠮷", "\u00a0", "<script>", "a" * 100_000],
    "markdown": ["x", "# Title\n\n* item\n", "a\tb", "**粗体**"],
    "code": ["x", "a b", "8867-4", "<=", "in-progress", "a-b_c.d", "码"],
    "id": ["x", "a" * 64, "A-1.b", "1", "-", "."],
    "uri": ["http://hl7.org/fhir", "urn:oid:1.2.3", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "mailto:a@b.cn", "a", "Patient/1",
            "http://例.cn/路", "http://x/y?z=%20#f"],
    "url": ["http://hl7.org/fhir", "https://example.org:8443/a?b=c", "ftp://x/y", "mllp://host:2575", "mailto:a@b.cn"],
    "canonical": ["http://hl7.org/fhir/ValueSet/my-valueset|0.8", "http://x/y#frag", "urn:oid:1.2.3", "http://x/y|2024-01"],
    "oid": ["urn:oid:1.2.3.4.5", "urn:oid:0.0", "urn:oid:2.16.840.1.113883.2.23", "urn:oid:2.999"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "urn:uuid:00000000-0000-0000-0000-000000000000"],
    "base64Binary": ["AA==", "aGVsbG8=", "aGVsbG8h", "aGVs\nbG8h", " aGVsbG8h ", "+/+/", "A" * 4_000_000],
    "date": ["2023", "2023-02", "2023-02-28", "2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31", "1582-10-15"],
    "dateTime": ["2023", "2023-02", "2024-02-29", "2015-02-07T13:28:17-05:00", "2015-02-07T13:28:17Z", "2015-02-07T13:28:17.239+02:00",
                 "2015-02-07T00:00:00.123456789+08:00", "2015-02-07T13:28:17+14:00", "2015-02-07T13:28:17-00:00", "2016-12-31T23:59:60Z"],
    "instant": ["2015-02-07T13:28:17.239+02:00", "2017-01-01T00:00:00Z", "2016-12-31T23:59:60Z", "2024-02-29T00:00:00.1-11:30"],
    "time": ["00:00:00", "23:59:59", "23:59:60", "08:30:00.5", "12:00:00.123456789"],
    "decimal": [0, 1, -1, 0.1, 1e10, 123456789012345678],
}  # fmt: skip

BAD: dict[str, list[Any]] = {
    "boolean": ["true", "True", 1, 0, "", "yes"],
    "integer": [2147483648, -2147483649, 1.5, "1", True, 10**30],
    "unsignedInt": [-1, 2147483648, 0.5, "0"],
    "positiveInt": [0, -1, 2147483648, 1.5, "1"],
    "string": ["", 1, True, "a\u0000b", "a\u0008b", "a\u001fb", "\ud800", "x" * (MAX_STRING + 1)],
    "markdown": ["", 1, "a\u0001b"],
    "code": ["", " x", "x ", "a  b", "\tx", "x\n", " ", "a\t\tb"],
    "id": ["", "a" * 65, "a b", "a_b", "a/b", "ä", "x\n", "#x", "a:b"],
    "uri": ["", " ", "a b", "http://x/ y", "x\n", "\tx", " http://x"],
    "url": ["", "a b", "http://x\n"],
    "canonical": ["", "http://x/y |1", "a b"],
    "oid": ["", "1.2.3", "urn:oid:3.1", "urn:oid:1", "urn:oid:1.02", "urn:oid:1..2", "urn:oid:1.2.", "urn:oid:1.2\n", "URN:OID:1.2"],
    "uuid": ["", "c757873d-ec9a-4326-a141-556f43239520", "urn:uuid:c757873d", "urn:uuid:C757873D-EC9A-4326-A141-556F43239520",
             "urn:uuid:c757873d-ec9a-4326-a141-556f4323952g", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520 "],
    "base64Binary": ["", " ", "A", "AA", "AAA", "AA=", "A===", "=AAA", "AA==AA==", "AAA*", "äAAA", "AA-_", "aGVsbG8h!"],
    "date": ["", "23", "2023-2-28", "2023-02-29", "2100-02-29", "1900-02-29", "2023-04-31", "2023-13", "2023-00", "2023-01-00",
             "2023-01-32",
             "0000", "0000-01-01", "2023-02-28T10:00:00Z", "20230228", "2023/02/28", "28.02.2023", "2023-02-28 ", "2023-02-28\n",
             "02023-01-01",
             "٢٠٢٣-01-01", "-2023"],
    "dateTime": ["", "2023-02-29", "2023-02-29T10:00:00Z", "2023-02-28T10:00Z", "2023-02-28T10:00:00", "2023-02-28T10Z",
                 "2023-02-28 10:00:00Z",
                 "2023-02-28T24:00:00Z", "2023-02-28T10:60:00Z", "2023-02-28T10:00:61Z", "2023-02-28T10:00:00+15:00",
                 "2023-02-28T10:00:00+14:30",
                 "2023-02-28T10:00:00+08:60", "2023-02-28T10:00:00+0800", "2023-02-28T10:00:00z", "2023-02-28t10:00:00Z",
                 "2023-02-28T10:00:00.Z", "2023-02T10:00:00Z", "2023-02-28T10:00:00Z\n", "2023-02-28T", "2023-02-28T1:00:00Z"],
    "instant": ["", "2023", "2023-02-28", "2023-02-28T10:00:00", "2023-02-28T10:00Z", "2023-02-29T10:00:00Z", "2023-02-28T25:00:00Z",
                "2023-02-28T10:00:00+24:00", "2023-02-28T10:00:00,5Z"],
    "time": ["", "24:00:00", "8:00:00", "08:00", "08:60:00", "08:00:61", "08:00:00Z", "08:00:00+08:00", "08:00:00.", "T08:00:00",
             "08:00:00\n"],
    "decimal": ["1", "", True, "NaN", {"value": 1}],
}  # fmt: skip


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [pytest.param(name, value, id=f"{name}-{ascii(value)[:40]}") for name, values in table.items() for value in values]


def holding(type_name: str, value: Any) -> dict[str, Any]:
    """A resource that holds a value of a primitive type: the value of an extension."""
    return {
        "resourceType": "Basic",
        "code": {"text": "x"},
        "extension": [{"url": "urn:x", "value" + type_name[0].upper() + type_name[1:]: value}],
    }


@pytest.mark.parametrize(("type_name", "value"), cases(GOOD))
def test_a_good_value_is_taken(type_name: str, value: Any) -> None:
    assert verdict(holding(type_name, value)) == (200, [])


@pytest.mark.parametrize(("type_name", "value"), cases(BAD))
def test_a_bad_value_is_refused_with_its_place(type_name: str, value: Any) -> None:
    """A malformed primitive cannot be read as R4: 400."""
    status, found = verdict(holding(type_name, value))
    assert (status, [where for _, where in found]) == (400, ["Basic.extension[0].value"])
    (issue,) = errors_of(holding(type_name, value))
    assert issue.code in ("value", "structure")
    assert issue.zh and issue.zh != issue.diagnostics


def test_the_tables_cover_every_primitive_type() -> None:
    types = {name for name in definitions().types if definitions().types.kind(name) == "primitive"}
    assert types == set(PRIMITIVES)
    assert types - {"xhtml"} == set(GOOD) == set(BAD)


@pytest.mark.parametrize("type_name", [name for name in GOOD if isinstance(GOOD[name][0], str)])
def test_a_bad_text_is_shown_with_its_type_and_rule(type_name: str) -> None:
    bad = next((value for value in BAD[type_name] if value and isinstance(value, str) and len(value) < 80 and value.isprintable()), None)
    if bad is None:
        bad = "a\u0001b"
    (issue,) = errors_of(holding(type_name, bad))
    assert f"is not a valid {type_name}: it " in issue.diagnostics
    assert bad in issue.diagnostics or "\\u0001" in issue.diagnostics


@pytest.mark.parametrize(
    "digits", ["0", "-0.0", "1.10", "72.50", "1e2", "1E-3", "-1.5e+10", "0.00000000000000000012", "12345678901234567890.123"]
)
def test_every_json_number_is_a_decimal(digits: str) -> None:
    text = json.dumps(holding("decimal", 0)).replace(": 0}", f": {digits}}}")
    assert digits in text
    assert verdict(text) == (200, [])


@pytest.mark.parametrize("digits", ["1.0", "1e2", "1E0", "0.0", "-0", "12345678901234567890"])
def test_an_integer_has_no_point_and_no_exponent(digits: str) -> None:
    text = json.dumps(holding("integer", 0)).replace(": 0}", f": {digits}}}")
    assert digits in text
    assert verdict(text) == (400, [("value", "Basic.extension[0].value")])


@pytest.mark.parametrize("digits", ["NaN", "Infinity", "-Infinity", "+1", "01", ".5", "1.", "0x10", "1e", "-"])
def test_what_is_no_json_number_is_not_read(digits: str) -> None:
    fault = read_error(json.dumps(holding("decimal", 0)).replace(": 0}", f": {digits}}}"))
    assert (fault.status, fault.issues[0].code) == (400, "structure")


@pytest.mark.parametrize("resource", ["Patient", "Observation", "Basic"])
@pytest.mark.parametrize("id", ["a b", "a_b", "a" * 65, "ä", "a/b"])
def test_resource_ids_are_ids(resource: str, id: str) -> None:
    """The definition of Resource.id says `string`, a known erratum of 4.0.1; https://hl7.org/fhir/R4/resource.html#id says id."""
    assert ("value", f"{resource}.id") in verdict({"resourceType": resource, "id": id})[1]


@pytest.mark.parametrize(("id", "good"), [("a_b", True), ("a/b:c", True), ("x" * 200, True), ("a b", False), ("", False), (1, False)])
def test_element_ids_are_strings_without_blanks(id: Any, good: bool) -> None:
    """https://hl7.org/fhir/R4/element.html: "any string value that does not contain spaces"."""
    status, found = verdict({"resourceType": "Patient", "name": [{"id": id, "family": "x"}]})
    assert (status, [where for _, where in found]) == ((200, []) if good else (400, ["Patient.name[0].id"]))


def test_a_day_that_is_not_in_the_calendar_is_told_so() -> None:
    (issue,) = errors_of({"resourceType": "Patient", "birthDate": "2023-02-29"})
    assert issue.expression == ("Patient.birthDate",)
    assert "'2023-02-29' is not a valid date" in issue.diagnostics and "calendar" in issue.diagnostics


def test_a_long_value_is_shortened_in_the_message() -> None:
    (issue,) = errors_of({"resourceType": "Patient", "birthDate": "x" * 5000})
    assert len(issue.diagnostics) < 300
