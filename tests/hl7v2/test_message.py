"""Delimiters, escapes, fields and the header. Specification: HL7 v2.5.1 chapter 2.5 to 2.7."""

from __future__ import annotations

import pytest

from integrations.hl7v2.errors import Refusal
from integrations.hl7v2.message import Delimiters, Message
from tests.hl7v2.pure import MARKS, ZONE, field, segment

HEAD = "MSH|^~\\&|LIS|LAB|FHIR|HM|20260115083000||ORU^R01^ORU_R01|C1|P|2.5.1"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("plain", "plain"),
        ("a\\F\\b", "a|b"),
        ("a\\S\\b", "a^b"),
        ("a\\T\\b", "a&b"),
        ("a\\R\\b", "a~b"),
        ("a\\E\\b", "a\\b"),
        ("a\\.br\\b", "a\nb"),
        ("a\\.sp\\b", "a\nb"),
        ("a\\.sp2\\b", "a\n\nb"),
        ("\\H\\bold\\N\\ plain", "bold plain"),
        ("\\X41\\", "A"),
        ("\\XE78E8B\\", "王"),
        ("\\X4\\", "\\X4\\"),
        ("\\XZZ\\", "\\XZZ\\"),
        ("\\Zfoo\\", "\\Zfoo\\"),
        ("5\\ 6", "5\\ 6"),
        ("\\E\\F\\E\\", "\\F\\"),
    ],
)
def test_escapes(sent: str, meant: str) -> None:
    assert MARKS.unescape(sent) == meant


def test_what_an_escape_gives_does_not_divide_the_field() -> None:
    assert field("a\\S\\b^c").part(1) == "a^b"
    assert field("a\\S\\b^c").part(2) == "c"


def test_components_subcomponents_and_what_is_absent() -> None:
    one = field("a^b&c^^d")
    assert [one.part(k) for k in (1, 2, 3, 4, 5)] == ["a", "b", "", "d", ""]
    assert one.part(2, 2) == "c"
    assert one.part(1, 2) == ""
    assert field("x^^^HOSP&1.2.3&ISO").subparts(4) == ("HOSP", "1.2.3", "ISO")


def test_two_quotes_delete_and_are_no_value() -> None:
    row = segment('PID|1||""|a^""')
    assert row.deletes(3)
    assert row.value(3) == ""
    assert row.value(4, 2) == ""
    assert not row.deletes(2)


def test_repetitions() -> None:
    row = segment("PID|1||A~B~~C")
    assert [one.raw for one in row.fields(3)] == ["A", "B", "C"]
    assert row.value(3) == "A"


@pytest.mark.parametrize(
    ("header", "marks"),
    [
        ("MSH|^~\\&|", "|^~\\&"),
        ("MSH|^~\\&#|", "|^~\\&"),
        ("MSH$%~\\&$", "$%~\\&"),
        ("MSH*!@#%*", "*!@#%"),
    ],
)
def test_delimiters_are_taken_from_the_message(header: str, marks: str) -> None:
    found = Delimiters(header)
    assert "".join((found.field, found.component, found.repetition, found.escape, found.subcomponent)) == marks


def test_a_message_with_other_delimiters_is_read_with_them() -> None:
    message = Message("MSH$%?/*$LIS$LAB$FHIR$HM$2026$$ADT%A01$C/F/1$P$2.5\rPID$1$$A%B?C\r")
    assert (message.type, message.event, message.control_id) == ("ADT", "A01", "C$1")
    assert [one.part(1) for one in message.all("PID")[0].fields(3)] == ["A", "C"]


@pytest.mark.parametrize(
    "header", ["MSH", "MSH|", "MSH|^~\\", "MSH|^^~\\&|", "MSH|^~\\|", "MSH|^~\\&#!|", "MSH a~\\&|", "MSH1^~\\&1", "MSH|^~\\王|"]
)
def test_unusable_delimiters_are_refused_as_not_processable(header: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Message(header)
    assert (refusal.value.code, refusal.value.location[:4]) == ("AR", "MSH-")


@pytest.mark.parametrize(
    "version", ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2", ""]
)  # fmt: skip
def test_versions_2_1_to_2_8_are_served(version: str) -> None:
    Message(HEAD.replace("2.5.1", version)).check_header()


@pytest.mark.parametrize("version", ["2", "2.0", "2.9", "3.0", "2.5.2", "V2", "2.55"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Message(HEAD.replace("2.5.1", version)).check_header()
    assert (refusal.value.code, refusal.value.error) == ("AR", "203")


def test_event_time_is_evn_6_then_evn_2_then_msh_7() -> None:
    def at(evn: str) -> int | None:
        return Message(f"{HEAD}\r{evn}\r").event_time(ZONE)

    minute = 60_000
    base = at("PV1|1")
    assert base is not None
    assert at("EVN||20260115083100") == base + minute
    assert at("EVN||20260115083100||||20260115083200") == base + 2 * minute
    assert Message(HEAD.replace("20260115083000", "20260115")).event_time(ZONE) is None
