"""Strict JSON in, exact JSON out; compared with Python's own parser on random documents.

RFC 8259, https://hl7.org/fhir/R4/json.html, https://hl7.org/fhir/R4/datatypes.html#decimal (precision is kept)
"""

from __future__ import annotations

import copy
import json
import pickle
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.model.json_codec import MAX_DEPTH, Number, dumps, loads, loads_any, plain, pretty


class Digits(str):
    """A number as it was written."""


def reference(raw: bytes | str) -> Any:
    """What Python's own parser reads, with the digits of numbers."""
    return json.loads(raw, parse_float=Digits, parse_int=Digits)


NUMBERS = st.one_of(
    st.integers(-(10**25), 10**25).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})\.[0-9]{1,25}", fullmatch=True),
    st.from_regex(r"-?(0|[1-9][0-9]{0,5})(\.[0-9]{1,5})?[eE][+-]?[0-9]{1,2}", fullmatch=True),
)
CHARACTERS = st.characters(
    exclude_categories=["Cs"], exclude_characters="".join(chr(code) for code in range(32) if code not in (9, 10, 13))
)
TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=12),
    st.sampled_from(['":', '\\":', '{"a":1}', "1.10", ",1.10,", ":1.0}", "[", "]}", "\\", '"', "é\u2028😀"]),
)


class Literal(float):
    """A number that json.dumps writes with its own digits."""

    def __new__(cls, text: str) -> Literal:
        made = super().__new__(cls, text)
        made.text = text  # type: ignore[attr-defined]
        return made


def written(value: Any, chance: random.Random) -> str:
    """A value as JSON text with random blanks and escapes."""
    blank = lambda: chance.choice(["", "", "", " ", "\n", "\t \r\n"])  # noqa: E731
    if isinstance(value, Literal):
        return value.text  # type: ignore[attr-defined]
    if isinstance(value, dict):
        members = (f"{blank()}{written(key, chance)}{blank()}:{blank()}{written(inner, chance)}{blank()}" for key, inner in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(f"{blank()}{written(inner, chance)}{blank()}" for inner in value) + "]"
    if isinstance(value, str) and chance.random() < 0.3:
        units = value.encode("utf-16-be")
        return '"' + "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)) + '"'
    return json.dumps(value, ensure_ascii=chance.random() < 0.5)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), TEXTS, NUMBERS.map(Literal)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=5), st.randoms(use_true_random=False))
def test_every_document_comes_out_with_the_same_values_and_digits(value: dict[str, Any], chance: random.Random) -> None:
    text = written(value, chance)
    read = loads(text.encode())
    assert reference(dumps(read)) == reference(text)
    assert reference(dumps(copy.deepcopy(read))) == reference(text)
    assert reference(pretty(dumps(read))) == reference(text)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=5), st.randoms(use_true_random=False), st.data())
def test_a_key_that_comes_twice_is_refused_wherever_it_stands(value: dict[str, Any], chance: random.Random, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    again = written({key: data.draw(VALUES)}, chance)[1:-1]
    inner = written(value, chance)[:-1] + "," + again + "}"
    for text in (inner, f'{{"a":[1.10,{inner}]}}', f'{{"x":"\\":","y":{inner}}}'):
        with pytest.raises(FhirError) as refused:
            loads(text.encode())
        assert refused.value.status == 400
        assert "stands twice" in refused.value.issues[0].diagnostics


def test_a_key_that_comes_twice_is_named_with_its_path() -> None:
    with pytest.raises(FhirError) as refused:
        loads(b'{"resourceType":"Patient","name":[{"family":"a"},{"family":"b","family":"c"}]}')
    (issue,) = refused.value.issues
    assert issue.expression == ("Patient.name[1].family",)
    assert "'family'" in issue.diagnostics and issue.zh and "重复" in issue.zh


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"\\u0061":2}',
        '{"\\u0061":1,"a":2}',
        '{"a" : {"b":1} , "a":{}}',
        '{"a":"\\u0022:","a":1}',
        '{"a":{"b":1,"b":1}}',
        '[{"a":1,"a":1}]',
    ],
)
def test_escapes_do_not_hide_a_second_key(text: str) -> None:
    with pytest.raises(FhirError):
        loads_any(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "}", "{}}", "{} {}", "[1,]", '{"a":1,}', '{"a"}', '{"a":}', "{a:1}", "{'a':1}",
        '{"a":01}', '{"a":.5}', '{"a":1.}', '{"a":+1}', '{"a":0x1}', '{"a":1e}', '{"a":NaN}', '{"a":Infinity}', '{"a":-Infinity}',
        '{"a":nan}', '{"a":True}', '{"a":undefined}', '{"a":"\n"}', '{"a":"\\x41"}', '{"a":"\\u12"}', '{"a":"\\ud800"}',
        '{"a":"\\udc00\\ud800"}', '{"a":"x}', '{"a":1}//x', '/**/{"a":1}', "\ufeff\ufeff{}", '{"a":1}\x00',
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(FhirError) as refused:
        loads(text.encode())
    (issue,) = refused.value.issues
    assert (refused.value.status, issue.code) == (400, "structure")
    assert issue.diagnostics and issue.zh


def test_the_place_of_a_syntax_fault_is_told() -> None:
    with pytest.raises(FhirError) as refused:
        loads(b'{"resourceType":"Patient",\n "active":tru}')
    assert "line 2, column 11" in refused.value.issues[0].diagnostics


@pytest.mark.parametrize(
    "raw",
    [b'{"a":"\xff"}', b'{"a":"\xc3"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xc0\x80"}', b"\xff\xfe{\x00}\x00", '{"a":"中"}'.encode("gb18030")],
)
def test_what_is_not_utf_8_is_refused(raw: bytes) -> None:
    with pytest.raises(FhirError) as refused:
        loads(raw)
    assert refused.value.status == 400
    assert "UTF-8" in refused.value.issues[0].diagnostics


def test_a_byte_order_mark_is_read_over() -> None:
    assert loads(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[]", "an array"), ('"x"', "a string"), ("1", "a number"), ("1.10", "a number"), ("true", "a boolean"), ("null", "null")],
)
def test_a_resource_is_an_object(text: str, kind: str) -> None:
    with pytest.raises(FhirError) as refused:
        loads(text.encode())
    assert f"not {kind}" in refused.value.issues[0].diagnostics


@pytest.mark.parametrize("character", [0, 1, 8, 11, 12, 14, 31])
def test_control_characters_are_refused_with_their_place(character: int) -> None:
    with pytest.raises(FhirError) as refused:
        loads(f'{{"resourceType":"Patient","name":[{{"family":"a\\u{character:04x}b"}}]}}'.encode())
    (issue,) = refused.value.issues
    assert issue.expression == ("Patient.name[0].family",) and f"U+{character:04X}" in issue.diagnostics


def test_tabs_and_line_breaks_are_characters() -> None:
    assert loads(b'{"a":"\\t\\n\\r"}') == {"a": "\t\n\r"}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_has_a_limit(opening: str, closing: str) -> None:
    levels = MAX_DEPTH // (len(opening.replace('"a":', "")))
    assert loads_any((opening * levels + "1" + closing * levels).encode()) is not None
    for deeper in (levels + 1, 1_000, 10_000, 500_000):
        with pytest.raises(FhirError) as refused:
            loads_any((opening * deeper + "1" + closing * deeper).encode())
        assert refused.value.status == 400


def test_brackets_in_strings_are_no_depth() -> None:
    value = {"a": "[{" * 5_000, "b": ["]" * 300, "[" * 300]}
    assert loads(json.dumps(value).encode()) == value
    wide = {"a": [{"b": [{}]} for _ in range(5_000)], "c": "}{]["}
    assert loads(json.dumps(wide).encode()) == wide


@pytest.mark.parametrize(
    "digits",
    [
        "72.50",
        "1.0",
        "0.10",
        "1e2",
        "1E+2",
        "-0.0",
        "-0",
        "12345678901234567890",
        "0.1000000000000000055511151231257827",
        "1e308",
        "1e-400",
        "9" * 300,
    ],
)
def test_a_number_keeps_its_text(digits: str) -> None:
    read = loads(f'{{"a":{digits}}}'.encode())
    assert dumps(read) == f'{{"a":{digits}}}'.encode()
    assert dumps(pickle.loads(pickle.dumps(read))) == dumps(read)
    assert isinstance(read["a"], Number | float | int)


@pytest.mark.parametrize("digits", ["1e400", "-1e309", "9" * 400])
def test_a_number_beyond_double_precision_is_refused(digits: str) -> None:
    """RFC 8259 section 6 lets a reader set limits; no client of the other end could read it either."""
    with pytest.raises(FhirError) as refused:
        loads(f'{{"a":{digits}}}'.encode())
    assert (refused.value.status, "number" in refused.value.issues[0].diagnostics) == (400, True)


def test_numbers_are_numbers() -> None:
    """They compare and calculate as decimals, whatever their text."""
    read = loads(b'{"a":1.10,"b":1.1,"c":1e2}')
    assert read["a"] == Decimal("1.1") and read["c"] == 100
    assert float(read["a"]) == read["b"]


@pytest.mark.parametrize(
    ("value", "text"), [(Decimal("1E+2"), "100"), (Decimal("1.50"), "1.50"), (Decimal("-0.00"), "-0.00"), (Decimal("1E-7"), "0.0000001")]
)
def test_decimals_are_written_without_exponent(value: Decimal, text: str) -> None:
    assert plain(value) == text
    assert dumps({"a": value}) == f'{{"a":{text}}}'.encode()


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal("sNaN")])
def test_what_is_no_number_is_not_written(value: Decimal) -> None:
    with pytest.raises(ValueError, match="no JSON form"):
        plain(value)


def test_other_objects_are_not_written() -> None:
    with pytest.raises(TypeError):
        dumps({"a": object()})


def test_the_official_examples_come_out_as_they_went_in(corpus: Any) -> None:
    from tests.wire.resources import official_examples

    count = 0
    for name, content in official_examples(corpus):
        assert reference(json_codec.dumps(loads(content))) == reference(content), name
        count += 1
    assert count == 549
